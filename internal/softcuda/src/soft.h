// What the parts of the software device share.
#pragma once
#include <cuda.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

#include "launch.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace soft {

// Every entry point holds this lock: the device has one state.
extern std::recursive_mutex mutex;
struct Lock {
  std::lock_guard<std::recursive_mutex> guard{mutex};
};

// counted says whether this call is the one that was asked to fail.
bool counted(const char* function);

// The context that is current on this thread, or null.
CUcontext current();

// inDevice says whether the n bytes from p lie inside one allocation of the
// current context.
bool inDevice(CUdeviceptr p, uint64_t n);

// enqueue adds work to a stream of the current context. It runs at once, or,
// in the lazy mode, when something waits for it.
CUresult enqueue(CUstream stream, std::function<CUresult()> work);

// live counts the objects of libraries that sit on top of the driver.
extern long programs, handles;

std::string setting(const char* name, const char* otherwise);

// version is the release of CUDA that the device is of, as 1000 major + 10 minor.
int version();

// What compiled code looks like: a line that names the shared library. Code for
// one architecture has a mark before that, and zeros and an end behind it, since
// machine code is no text.
extern const char kCode[], kMachine[], kEnd[];
const int kZeros = 24;

}  // namespace soft

// The first lines of an entry point: it fails if it was told to, without doing
// anything; or it must have a context that is still good.
#define ENTER(error)                              \
  soft::Lock lock;                                \
  if (soft::counted(__func__)) return error

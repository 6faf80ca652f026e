// What the device and the kernels that g++ compiled share.
#pragma once

namespace soft {

// Where a thread goes on that touched memory which is not its own.
struct Landing {
  void (*resume)();
  void* stack;  // top of the stack to resume on
};

struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  int arguments;
  const unsigned char* sizes;  // bytes of each
};

struct Launch {
  unsigned grid[3], block[3], shared;
  void** arguments;
  int threads;   // of the processor
  bool reverse;  // order of a block's threads
  // guard tells where this thread goes on after an illegal access; null: nowhere.
  void (*guard)(Landing*);
  char message[512];  // what went wrong
};

// What comes of a launch, as the CUresult of the same number.
enum Outcome { kSuccess = 0, kIllegalAddress = 700, kLaunchFailed = 719 };

typedef int (*LaunchFunction)(const Kernel*, Launch*);  // an Outcome

}  // namespace soft

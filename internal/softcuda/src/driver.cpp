// Stands in for libcuda.so.1: devices, contexts, memory, streams, events and
// modules, on the processor.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "soft.h"

using soft::inDevice;

namespace {

const int kDevices = 2;
const size_t kPage = 4096;
const size_t kFront = 16 * kPage;  // what nobody may touch before an allocation
const unsigned char kFresh = 0xCD;  // content of memory that nobody wrote

struct Event;

struct Op {
  std::function<CUresult()> work;    // null: record or wait
  std::shared_ptr<Event> event;      // recorded, or waited for
  uint64_t record = 0;               // which record of the event
  bool wait = false;
};

struct Stream {
  bool blocking = true;  // ordered with the legacy stream
  std::deque<Op> queue;
};

struct Event {
  uint64_t asked = 0, done = 0;   // records
  std::shared_ptr<Stream> stream;  // of the last record
  double milliseconds = 0;
  bool timing = true;
};

struct Function;
struct Module {
  void* library = nullptr;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Function {
  const soft::Kernel* kernel;
  soft::LaunchFunction launch;
  unsigned dynamicShared = 48 << 10;
};

struct Block {
  size_t size, mapped;  // bytes asked for, bytes from the page that it begins in to its guard page
};

struct Context {
  int device = 0;
  CUresult error = CUDA_SUCCESS;  // the first failure of work; it stays
  std::shared_ptr<Stream> legacy = std::make_shared<Stream>();
  std::map<CUstream, std::shared_ptr<Stream>> streams;
  std::map<CUevent, std::shared_ptr<Event>> events;
  std::map<CUmodule, std::unique_ptr<Module>> modules;
  std::map<CUdeviceptr, Block> blocks;
  std::map<void*, size_t> pinned;
  size_t used = 0;

  long live() const { return 1 + streams.size() + events.size() + modules.size() + blocks.size() + pinned.size(); }
};

std::map<CUcontext, std::unique_ptr<Context>> contexts;
thread_local CUcontext currentContext;
size_t totalMemory = 4ull << 30;
long abandoned;  // objects of contexts that were destroyed with something in them

struct Primary {
  CUcontext context = nullptr;
  int users = 0;
} primaries[kDevices];

std::string failFunction;  // "" is any
std::string failed;
long failCountdown;
std::map<std::string, long> calls;  // since tests last told which is to fail

bool lazy() {
  static const bool is = soft::setting("SOFTCUDA_ASYNC", "eager") == "lazy";
  return is;
}
bool reversed() {
  static const bool is = soft::setting("SOFTCUDA_ORDER", "forward") == "reverse";
  return is;
}

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Context* context() {
  auto it = contexts.find(currentContext);
  return it == contexts.end() ? nullptr : it->second.get();
}

// Declares ctx, the current context, whose work has not failed.
#define CONTEXT                                    \
  Context* ctx = context();                        \
  if (!ctx) return CUDA_ERROR_INVALID_CONTEXT;     \
  if (ctx->error) return ctx->error

// The same for what destroys: it does so, and reports what it was told to or
// the failure of earlier work, as CUDA's do.
#define ENTER_DESTROY                                                             \
  soft::Lock lock;                                                                \
  bool fails = soft::counted(__func__);                                           \
  Context* ctx = context();                                                       \
  if (!ctx) return CUDA_ERROR_INVALID_CONTEXT
#define LEAVE_DESTROY return fails ? CUDA_ERROR_UNKNOWN : ctx->error

void drain(Context* ctx, Stream* s, const Event* until = nullptr, uint64_t record = 0) {
  while (!s->queue.empty() && !(until && until->done >= record)) {
    Op op = std::move(s->queue.front());
    s->queue.pop_front();
    if (op.work) {
      if (!ctx->error) ctx->error = op.work();
    } else if (op.wait) {
      if (op.event->done < op.record && op.event->stream.get() != s) drain(ctx, op.event->stream.get(), op.event.get(), op.record);
    } else {
      op.event->done = op.record;
      op.event->milliseconds = now();
    }
  }
}

void drainAll(Context* ctx, bool onlyBlocking = false) {
  std::vector<Stream*> all{ctx->legacy.get()};
  for (auto& s : ctx->streams)
    if (s.second->blocking || !onlyBlocking) all.push_back(s.second.get());
  if (reversed()) std::reverse(all.begin(), all.end());
  for (Stream* s : all) drain(ctx, s);
}

std::shared_ptr<Stream> lookup(Context* ctx, CUstream s) {
  if (!s || s == CU_STREAM_LEGACY) return ctx->legacy;
  auto it = ctx->streams.find(s);
  return it == ctx->streams.end() ? nullptr : it->second;
}

CUresult push(Context* ctx, CUstream handle, Op op) {
  auto s = lookup(ctx, handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s == ctx->legacy) drainAll(ctx, true);
  else if (s->blocking) drain(ctx, ctx->legacy.get());
  s->queue.push_back(std::move(op));
  if (!lazy()) drain(ctx, s.get());
  return ctx->error;
}

// pageable says whether the n bytes from p are memory of the host that CUDA
// knows nothing of: copies to and from it are done when the call returns.
bool pageable(Context* ctx, const void* p, size_t n) {
  auto it = ctx->pinned.upper_bound((void*)p);
  if (it == ctx->pinned.begin()) return true;
  --it;
  return (const char*)p + n > (const char*)it->first + it->second;
}

template <class T>
T handleOf(void* p) {
  return (T)p;
}

// ---- accesses outside of an allocation

thread_local soft::Landing* landing;
struct sigaction previousSegv, previousBus;

// describe says where an address lies that no allocation holds.
void describe(char* out, size_t n, uintptr_t address) {
  for (auto& c : contexts) {
    for (auto& b : c.second->blocks) {
      uintptr_t start = b.first, end = start + b.second.size;
      if (address >= end && address < end + 2 * kPage) {
        snprintf(out, n, "%zu bytes after the end of an allocation of %zu bytes", (size_t)(address - end), b.second.size);
        return;
      }
      if (address < start && address + 2 * kPage >= start) {
        snprintf(out, n, "%zu bytes before an allocation of %zu bytes", (size_t)(start - address), b.second.size);
        return;
      }
    }
  }
  snprintf(out, n, "address %#zx, which is not the device's", (size_t)address);
}

uintptr_t faultAddress;

void onFault(int number, siginfo_t* info, void* where) {
  if (landing && landing->resume) {
    faultAddress = (uintptr_t)info->si_addr;
    auto& r = ((ucontext_t*)where)->uc_mcontext.gregs;
    r[REG_RIP] = (greg_t)landing->resume;
    r[REG_RSP] = (greg_t)(((uintptr_t)landing->stack & ~(uintptr_t)63) - 8);
    return;
  }
  sigaction(number, number == SIGSEGV ? &previousSegv : &previousBus, nullptr);  // and let it happen again
}

// Go's runtime hands faults in C code on to whoever was there before it.
__attribute__((constructor)) void catchFaults() {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = onFault;
  a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &a, &previousSegv);
  sigaction(SIGBUS, &a, &previousBus);
}

// A stack for signals, for threads that have none of their own.
struct SignalStack {
  void* memory = nullptr;
  void ensure() {
    stack_t s;
    if (memory || sigaltstack(nullptr, &s) || !(s.ss_flags & SS_DISABLE)) return;
    const size_t size = 64 << 10;
    memory = malloc(size);
    s = stack_t{};
    s.ss_sp = memory;
    s.ss_size = size;
    sigaltstack(&s, nullptr);
  }
  ~SignalStack() {
    if (!memory) return;
    stack_t s{};
    s.ss_flags = SS_DISABLE;
    sigaltstack(&s, nullptr);
    free(memory);
  }
};
thread_local SignalStack signalStack;

void guard(soft::Landing* l) {
  if (l) signalStack.ensure();
  landing = l;
}

CUresult runKernel(Function* f, soft::Launch launch, std::vector<uint64_t>& slots) {
  std::vector<void*> arguments;
  for (auto& s : slots) arguments.push_back(&s);
  launch.arguments = arguments.data();
  launch.guard = guard;
  launch.reverse = reversed();
  static const int threads = std::max(1, atoi(soft::setting("SOFTCUDA_THREADS", std::to_string(std::thread::hardware_concurrency()).c_str()).c_str()));
  launch.threads = threads;
  launch.message[0] = 0;
  CUresult r = (CUresult)f->launch(f->kernel, &launch);
  if (r == CUDA_ERROR_ILLEGAL_ADDRESS) {
    char where[200];
    describe(where, sizeof where, faultAddress);
    fprintf(stderr, "softcuda: kernel %s, %s: access %s\n", f->kernel->name, launch.message, where);
  } else if (r) {
    fprintf(stderr, "softcuda: kernel %s, %s\n", f->kernel->name, launch.message);
  }
  return r;
}

}  // namespace

namespace soft {

std::recursive_mutex mutex;
long programs, handles;

std::string setting(const char* name, const char* otherwise) {
  const char* v = getenv(name);
  return v && *v ? v : otherwise;
}

int version() {
  static const int is = atoi(setting("SOFTCUDA_VERSION", "13000").c_str());
  return is;
}

const char kCode[] = "// softcuda: ", kMachine[] = "\x7f" "ELF", kEnd[] = "end";

CUcontext current() { return context() ? currentContext : nullptr; }

bool counted(const char* function) {
  calls[function]++;
  if (failCountdown == 0 || (!failFunction.empty() && failFunction != function)) return false;
  if (--failCountdown) return false;
  failed = function;
  return true;
}

bool inDevice(CUdeviceptr p, uint64_t n) {
  Context* ctx = context();
  if (!ctx) return false;
  auto it = ctx->blocks.upper_bound(p);
  if (it == ctx->blocks.begin()) return false;
  --it;
  uint64_t offset = p - it->first;
  return offset <= it->second.size && n <= it->second.size - offset;
}

CUresult enqueue(CUstream stream, std::function<CUresult()> work) {
  CONTEXT;
  Op op;
  op.work = std::move(work);
  return push(ctx, stream, std::move(op));
}

}  // namespace soft

// ---- what tests tell and ask

// The n-th call from now fails, of the driver, NVRTC or cuBLAS, but for cuInit
// and what only describes errors; 0: none.
EXPORT void softcudaFailAt(long n) {
  soft::Lock lock;
  failFunction.clear();
  failed.clear();
  calls.clear();
  failCountdown = n;
}
// The n-th call of a function from now fails.
EXPORT void softcudaFailCall(const char* function, long n) {
  soft::Lock lock;
  failFunction = function;
  failed.clear();
  calls.clear();
  failCountdown = n;
}
// The name of the function that was made to fail, or "".
EXPORT const char* softcudaFailed() {
  soft::Lock lock;
  return failed.c_str();
}
// Lines of a function's name and how often it was called since then.
EXPORT const char* softcudaCalls() {
  soft::Lock lock;
  static std::string text;
  text.clear();
  for (auto& c : calls) text += c.first + " " + std::to_string(c.second) + "\n";
  return text.c_str();
}
// Objects that were made and not destroyed, also those that a destroyed
// context still held.
EXPORT long softcudaLive() {
  soft::Lock lock;
  long n = soft::programs + soft::handles + abandoned;
  for (auto& c : contexts) n += c.second->live();
  return n;
}
// Sets each device's memory.
EXPORT void softcudaSetMemory(size_t bytes) {
  soft::Lock lock;
  totalMemory = bytes;
}
// Bytes of device memory in use.
EXPORT size_t softcudaUsed() {
  soft::Lock lock;
  size_t n = 0;
  for (auto& c : contexts) n += c.second->used;
  return n;
}

// ---- devices and contexts

EXPORT CUresult cuInit(unsigned) { return soft::setting("SOFTCUDA_CARDS", "yes") == "none" ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }
EXPORT CUresult cuGetErrorName(CUresult r, const char** s) {
  switch (r) {
    case CUDA_ERROR_NO_DEVICE: *s = "CUDA_ERROR_NO_DEVICE"; break;
    case CUDA_ERROR_OUT_OF_MEMORY: *s = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case CUDA_ERROR_ILLEGAL_ADDRESS: *s = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    default: *s = "CUDA_ERROR_UNKNOWN";
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuGetErrorString(CUresult, const char** s) { *s = "error of the software device"; return CUDA_SUCCESS; }
EXPORT CUresult cuDriverGetVersion(int* v) { ENTER(CUDA_ERROR_UNKNOWN); *v = soft::version(); return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetCount(int* n) { ENTER(CUDA_ERROR_UNKNOWN); *n = kDevices; return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGet(CUdevice* d, int ordinal) {
  ENTER(CUDA_ERROR_UNKNOWN);
  if (ordinal < 0 || ordinal >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  *d = ordinal;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char* s, int n, CUdevice d) {
  ENTER(CUDA_ERROR_UNKNOWN);
  snprintf(s, n, "software device %d", d);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t* n, CUdevice) { ENTER(CUDA_ERROR_UNKNOWN); *n = totalMemory; return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice) {
  ENTER(CUDA_ERROR_UNKNOWN);
  switch (a) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = 8; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = 0; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 2; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: *v = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *v = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *v = 64; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *v = 0x7fffffff; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y: *v = 65535; break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *v = 65535; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 48 << 10; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = 163 << 10; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *v = 2048; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *v = 1410000; break;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: *v = 2; break;
    default: *v = 0;
  }
  return CUDA_SUCCESS;
}

namespace {
CUcontext create(CUdevice d) {
  auto c = std::make_unique<Context>();
  c->device = d;
  auto handle = handleOf<CUcontext>(c.get());
  contexts[handle] = std::move(c);
  return handle;
}
CUresult destroy(CUcontext handle, bool fails);
}  // namespace

EXPORT CUresult cuCtxCreate_v2(CUcontext* out, unsigned, CUdevice d) {
  ENTER(CUDA_ERROR_UNKNOWN);
  if (d < 0 || d >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  *out = currentContext = create(d);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice d, unsigned) {
  ENTER(CUDA_ERROR_UNKNOWN);
  return d < 0 || d >= kDevices ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* out, CUdevice d) {
  ENTER(CUDA_ERROR_UNKNOWN);
  if (d < 0 || d >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  Primary& p = primaries[d];
  if (!p.users++) p.context = create(d);
  *out = p.context;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice d) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  if (d < 0 || d >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  Primary& p = primaries[d];
  if (!p.users) return CUDA_ERROR_INVALID_CONTEXT;
  if (--p.users) return fails ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
  return destroy(p.context, fails);
}
EXPORT CUresult cuCtxDestroy_v2(CUcontext handle) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  return destroy(handle, fails);
}
namespace {
CUresult destroy(CUcontext handle, bool fails) {
  auto it = contexts.find(handle);
  if (it == contexts.end()) return CUDA_ERROR_INVALID_CONTEXT;
  Context* ctx = it->second.get();
  CUcontext before = currentContext;
  currentContext = handle;
  drainAll(ctx);
  currentContext = before == handle ? nullptr : before;
  if (long n = ctx->live() - 1) {
    fprintf(stderr, "softcuda: a context was destroyed that still held %zu allocations (%zu bytes), %zu pinned, %zu streams, %zu events, %zu modules\n",
            ctx->blocks.size(), ctx->used, ctx->pinned.size(), ctx->streams.size(), ctx->events.size(), ctx->modules.size());
    abandoned += n;
    for (auto& b : ctx->blocks) munmap((void*)((b.first & ~(kPage - 1)) - kFront), kFront + b.second.mapped);
    for (auto& p : ctx->pinned) free(p.first);
  }
  CUresult r = fails ? CUDA_ERROR_UNKNOWN : ctx->error;
  contexts.erase(it);
  return r;
}
}  // namespace
EXPORT CUresult cuCtxSetCurrent(CUcontext c) {
  ENTER(CUDA_ERROR_UNKNOWN);
  if (c && !contexts.count(c)) return CUDA_ERROR_INVALID_CONTEXT;
  currentContext = c;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetCurrent(CUcontext* c) { ENTER(CUDA_ERROR_UNKNOWN); *c = currentContext; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetDevice(CUdevice* d) { ENTER(CUDA_ERROR_UNKNOWN); CONTEXT; *d = ctx->device; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxSynchronize() {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  drainAll(ctx);
  return ctx->error;
}

// ---- memory

EXPORT CUresult cuMemGetInfo_v2(size_t* f, size_t* t) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  size_t used = 0;
  for (auto& c : contexts)
    if (c.second->device == ctx->device) used += c.second->used;
  *t = totalMemory;
  *f = used < totalMemory ? totalMemory - used : 0;
  return CUDA_SUCCESS;
}
// An allocation ends at a page that nobody may touch. What lies before it in its
// first page is looked at when it is freed, and nobody may touch what lies
// before that.
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* p, size_t n) {
  ENTER(CUDA_ERROR_OUT_OF_MEMORY);
  CONTEXT;
  if (!n) return CUDA_ERROR_INVALID_VALUE;
  size_t used = 0;
  for (auto& c : contexts)
    if (c.second->device == ctx->device) used += c.second->used;
  if (n > totalMemory || used > totalMemory - n) return CUDA_ERROR_OUT_OF_MEMORY;
  size_t aligned = (n + 15) & ~(size_t)15;  // as near to the guard page as vector loads allow
  size_t body = (aligned + kPage - 1) & ~(kPage - 1);
  char* base = (char*)mmap(nullptr, kFront + body + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  mprotect(base, kFront, PROT_NONE);
  base += kFront;
  mprotect(base + body, kPage, PROT_NONE);
  memset(base, kFresh, body);
  *p = (CUdeviceptr)(base + body - aligned);
  ctx->blocks[*p] = {n, body + kPage};
  ctx->used += n;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr p) {
  ENTER_DESTROY;
  auto it = ctx->blocks.find(p);
  if (it == ctx->blocks.end()) return CUDA_ERROR_INVALID_VALUE;
  drainAll(ctx);
  unsigned char* base = (unsigned char*)(p & ~(kPage - 1));
  for (unsigned char* c = base; c < (unsigned char*)p; c++)
    if (*c != kFresh) {
      fprintf(stderr, "softcuda: something wrote %zu bytes before an allocation of %zu bytes\n", (size_t)((unsigned char*)p - c), it->second.size);
      if (!ctx->error) ctx->error = CUDA_ERROR_ILLEGAL_ADDRESS;
      break;
    }
  munmap(base - kFront, kFront + it->second.mapped);
  ctx->used -= it->second.size;
  ctx->blocks.erase(it);
  LEAVE_DESTROY;
}
EXPORT CUresult cuMemHostAlloc(void** p, size_t n, unsigned) {
  ENTER(CUDA_ERROR_OUT_OF_MEMORY);
  CONTEXT;
  if (!n) return CUDA_ERROR_INVALID_VALUE;
  *p = aligned_alloc(kPage, (n + kPage - 1) & ~(kPage - 1));
  if (!*p) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(*p, kFresh, n);
  ctx->pinned[*p] = n;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuMemFreeHost(void* p) {
  ENTER_DESTROY;
  if (!ctx->pinned.count(p)) return CUDA_ERROR_INVALID_VALUE;
  drainAll(ctx);
  ctx->pinned.erase(p);
  free(p);
  LEAVE_DESTROY;
}

#define WITHIN(p, n) \
  if (!inDevice(p, n)) return CUDA_ERROR_INVALID_VALUE

// From memory that is not pinned a copy may return when its source has been put
// aside: only the legacy stream knows when it has arrived.
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr d, const void* s, size_t n) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(d, n);
  auto aside = std::make_shared<std::vector<char>>((const char*)s, (const char*)s + n);
  CUresult r = soft::enqueue(nullptr, [=] { memcpy((void*)d, aside->data(), n); return CUDA_SUCCESS; });
  if (!pageable(ctx, s, n)) drain(ctx, ctx->legacy.get());
  return r ? r : ctx->error;
}
EXPORT CUresult cuMemcpyDtoH_v2(void* d, CUdeviceptr s, size_t n) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(s, n);
  drainAll(ctx, true);
  if (!ctx->error) memcpy(d, (void*)s, n);
  return ctx->error;
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void* s, size_t n, CUstream stream) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(d, n);
  auto st = lookup(ctx, stream);
  if (!st) return CUDA_ERROR_INVALID_HANDLE;
  if (pageable(ctx, s, n)) {  // the driver copies it aside before it returns
    auto aside = std::make_shared<std::vector<char>>((const char*)s, (const char*)s + n);
    return soft::enqueue(stream, [=] { memcpy((void*)d, aside->data(), n); return CUDA_SUCCESS; });
  }
  return soft::enqueue(stream, [=] { memcpy((void*)d, s, n); return CUDA_SUCCESS; });
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void* d, CUdeviceptr s, size_t n, CUstream stream) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(s, n);
  auto st = lookup(ctx, stream);
  if (!st) return CUDA_ERROR_INVALID_HANDLE;
  bool wait = pageable(ctx, d, n);
  CUresult r = soft::enqueue(stream, [=] { memcpy(d, (void*)s, n); return CUDA_SUCCESS; });
  if (wait) drain(ctx, st.get());
  return r ? r : ctx->error;
}
EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream stream) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(d, n);
  WITHIN(s, n);
  return soft::enqueue(stream, [=] { memmove((void*)d, (void*)s, n); return CUDA_SUCCESS; });
}
EXPORT CUresult cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream stream) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  WITHIN(d, n);
  return soft::enqueue(stream, [=] { memset((void*)d, v, n); return CUDA_SUCCESS; });
}

// ---- streams and events

EXPORT CUresult cuStreamCreate(CUstream* out, unsigned flags) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto s = std::make_shared<Stream>();
  s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  *out = handleOf<CUstream>(s.get());
  ctx->streams[*out] = s;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamDestroy_v2(CUstream handle) {
  ENTER_DESTROY;
  auto it = ctx->streams.find(handle);
  if (it == ctx->streams.end()) return CUDA_ERROR_INVALID_HANDLE;
  auto s = it->second;
  drain(ctx, s.get());
  ctx->streams.erase(handle);
  LEAVE_DESTROY;
}
EXPORT CUresult cuStreamSynchronize(CUstream handle) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto s = lookup(ctx, handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s == ctx->legacy) drainAll(ctx, true);
  drain(ctx, s.get());
  return ctx->error;
}
EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto it = ctx->events.find(event);
  if (it == ctx->events.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (it->second->done == it->second->asked) return lookup(ctx, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  Op op;
  op.event = it->second;
  op.record = it->second->asked;
  op.wait = true;
  return push(ctx, handle, std::move(op));
}
EXPORT CUresult cuEventCreate(CUevent* out, unsigned flags) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto e = std::make_shared<Event>();
  e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  *out = handleOf<CUevent>(e.get());
  ctx->events[*out] = e;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuEventDestroy_v2(CUevent handle) {
  ENTER_DESTROY;
  if (!ctx->events.erase(handle)) return CUDA_ERROR_INVALID_HANDLE;
  LEAVE_DESTROY;
}
EXPORT CUresult cuEventRecord(CUevent event, CUstream handle) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto it = ctx->events.find(event);
  auto s = lookup(ctx, handle);
  if (it == ctx->events.end() || !s) return CUDA_ERROR_INVALID_HANDLE;
  Event* e = it->second.get();
  if (e->stream && e->stream != s) drain(ctx, e->stream.get(), e, e->asked);  // records of one event are in order
  e->stream = s;
  Op op;
  op.event = it->second;
  op.record = ++e->asked;
  return push(ctx, handle, std::move(op));
}
EXPORT CUresult cuEventSynchronize(CUevent event) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto it = ctx->events.find(event);
  if (it == ctx->events.end()) return CUDA_ERROR_INVALID_HANDLE;
  auto e = it->second;
  if (e->stream) drain(ctx, e->stream.get(), e.get(), e->asked);
  return ctx->error;
}
EXPORT CUresult cuEventQuery(CUevent event) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto it = ctx->events.find(event);
  if (it == ctx->events.end()) return CUDA_ERROR_INVALID_HANDLE;
  return it->second->done == it->second->asked ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
EXPORT CUresult cuEventElapsedTime(float* ms, CUevent a, CUevent b) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto from = ctx->events.find(a), to = ctx->events.find(b);
  if (from == ctx->events.end() || to == ctx->events.end()) return CUDA_ERROR_INVALID_HANDLE;
  Event *f = from->second.get(), *t = to->second.get();
  if (!f->asked || !t->asked || !f->timing || !t->timing) return CUDA_ERROR_INVALID_HANDLE;
  if (f->done < f->asked || t->done < t->asked) return CUDA_ERROR_NOT_READY;
  *ms = (float)(t->milliseconds - f->milliseconds);
  return CUDA_SUCCESS;
}

// ---- modules

EXPORT CUresult cuModuleLoadData(CUmodule* out, const void* image) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  const char* s = (const char*)image;
  bool machine = !strncmp(s, soft::kMachine, strlen(soft::kMachine));
  s = strstr(s, soft::kCode);
  if (!s) return CUDA_ERROR_INVALID_PTX;
  s += strlen(soft::kCode);
  std::string path(s, strcspn(s, "\n"));
  s += path.size() + strlen("\n//\n");
  if (machine) {
    for (int i = 0; i < soft::kZeros; i++)
      if (*s++) return CUDA_ERROR_INVALID_IMAGE;
    if (strncmp(s, soft::kEnd, strlen(soft::kEnd))) return CUDA_ERROR_INVALID_IMAGE;
  }
  auto m = std::make_unique<Module>();
  m->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!m->library) {
    fprintf(stderr, "softcuda: %s\n", dlerror());
    return CUDA_ERROR_INVALID_IMAGE;
  }
  auto launch = (soft::LaunchFunction)dlsym(m->library, "softLaunch");
  for (auto k = (const soft::Kernel*)dlsym(m->library, "softKernels"); k->name; k++)
    m->functions[k->name].reset(new Function{k, launch});
  *out = handleOf<CUmodule>(m.get());
  ctx->modules[*out] = std::move(m);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleUnload(CUmodule handle) {
  ENTER_DESTROY;
  if (!ctx->modules.count(handle)) return CUDA_ERROR_INVALID_HANDLE;
  drainAll(ctx);
  ctx->modules.erase(handle);  // the library stays: its threads' storage may be in use
  LEAVE_DESTROY;
}
EXPORT CUresult cuModuleGetFunction(CUfunction* f, CUmodule handle, const char* name) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  auto m = ctx->modules.find(handle);
  if (m == ctx->modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  auto it = m->second->functions.find(name);
  if (it == m->second->functions.end()) return CUDA_ERROR_NOT_FOUND;
  *f = handleOf<CUfunction>(it->second.get());
  return CUDA_SUCCESS;
}

namespace {
Function* lookup(Context* ctx, CUfunction f) {
  for (auto& m : ctx->modules)
    for (auto& it : m.second->functions)
      if (handleOf<CUfunction>(it.second.get()) == f) return it.second.get();
  return nullptr;
}
}  // namespace

EXPORT CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute a, int v) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  Function* f = lookup(ctx, handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (v < 0 || v > 163 << 10) return CUDA_ERROR_INVALID_VALUE;
    f->dynamicShared = v;
  }
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream stream, void** parameters, void**) {
  ENTER(CUDA_ERROR_UNKNOWN);
  CONTEXT;
  Function* f = lookup(ctx, handle);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  uint64_t threads = (uint64_t)bx * by * bz;
  if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || !threads || threads > 1024 || bz > 64 || shared > f->dynamicShared)
    return CUDA_ERROR_INVALID_VALUE;
  std::vector<uint64_t> slots(f->kernel->arguments);
  for (size_t i = 0; i < slots.size(); i++) memcpy(&slots[i], parameters[i], f->kernel->sizes[i]);
  soft::Launch launch{{gx, gy, gz}, {bx, by, bz}, shared};
  return soft::enqueue(stream, [=]() mutable { return runKernel(f, launch, slots); });
}

// Stands before the text of CUDA kernels, so that g++ compiles them: the
// threads of a block are fibers that change places at barriers, and blocks are
// spread over threads of the processor.
#pragma once
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "launch.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __constant__ static const

struct dim3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct uchar3 { unsigned char x, y, z; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(16) double2 { double x, y; };
static inline float2 make_float2(float a, float b) { return {a, b}; }
static inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
static inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }
static inline uchar4 make_uchar4(unsigned char a, unsigned char b, unsigned char c, unsigned char d) { return {a, b, c, d}; }
static inline double2 make_double2(double a, double b) { return {a, b}; }

namespace soft {

const size_t kStack = 64 << 10, kGuard = 4096;

enum State { kReady, kBarrier, kDone, kWarp, kFault };

struct Fiber {
  void* sp;
  char* stack;  // with a page before it that nobody may touch
  dim3 thread;
  int linear;
  bool started;  // on this thread of the processor
  State state;
  int line;       // of the barrier that it waits at
  unsigned mask;  // lanes that a warp's barrier is for
};

struct Worker {
  std::vector<Fiber> fibers;
  std::vector<uint64_t> lanes;  // what each thread shows its warp
  std::vector<char> shared;     // dynamic shared memory
  Fiber* current = nullptr;
  void* scheduler = nullptr;
  dim3 block, blockDim, gridDim;
  void (*entry)(void**) = nullptr;
  void** arguments = nullptr;
  Landing landing;

};

// Workers that no launch uses; they keep their stacks.
static std::mutex idleMutex;
static std::vector<Worker*> idle;

static Worker* take() {
  std::lock_guard<std::mutex> lock(idleMutex);
  if (idle.empty()) return new Worker;
  Worker* worker = idle.back();
  idle.pop_back();
  for (Fiber& f : worker->fibers) f.started = false;
  return worker;
}

static void giveBack(Worker* worker) {
  std::lock_guard<std::mutex> lock(idleMutex);
  idle.push_back(worker);
}

// Only a pointer is the thread's own, apart from shared memory, which is filled
// with noise before a launch.
static thread_local Worker* w;
static thread_local dim3 currentThread;

extern "C" __attribute__((visibility("hidden"))) void softSwitch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.hidden softSwitch
.global softSwitch
.type softSwitch,@function
softSwitch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  pop %rcx
  jmp *%rcx
.size softSwitch,.-softSwitch
)");
#else
#error "kernels run on amd64 only: softSwitch is missing for this processor"
#endif

static __attribute__((noinline)) void yield(State state, int line, unsigned mask) {
  Fiber* me = w->current;
  me->state = state;
  me->line = line;
  me->mask = mask;
  softSwitch(&me->sp, w->scheduler);
}

static void fiberMain() {
  for (;;) {
    w->entry(w->arguments);
    yield(kDone, 0, 0);
  }
}

// Where a fiber goes on that touched memory which is not the device's.
static void fault() {
  yield(kFault, 0, 0);
  __builtin_unreachable();
}

static void arm(Fiber& f) {
  f.state = kReady;
  if (f.started) return;
  f.started = true;
  if (!f.stack) {
    char* base = (char*)mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == (char*)MAP_FAILED) abort();
    mprotect(base, kGuard, PROT_NONE);
    f.stack = base + kGuard;
  }
  void** sp = (void**)(f.stack + kStack - 64 - f.linear % 64 * 192);  // spread over the cache's sets
  *--sp = nullptr;  // as after a call: the stack pointer is 8 past a multiple of 16
  *--sp = (void*)fiberMain;
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  f.sp = sp;
}

static void resume(Fiber& f) {
  w->current = &f;
  w->landing.stack = f.stack + kStack;
  currentThread = f.thread;
  softSwitch(&w->scheduler, f.sp);
}

// Releases the warps whose threads all wait at one barrier; returns the thread
// that waits in vain, if there is one.
static Fiber* releaseWarps(unsigned n) {
  for (unsigned base = 0; base < n; base += 32) {
    unsigned end = std::min(n, base + 32), waiting = 0;
    Fiber* first = nullptr;
    for (unsigned i = base; i < end; i++)
      if (w->fibers[i].state == kWarp) {
        waiting |= 1u << (i - base);
        if (!first) first = &w->fibers[i];
      }
    if (!first) continue;
    unsigned lanes = end - base == 32 ? ~0u : (1u << (end - base)) - 1;
    for (unsigned i = base; i < end; i++)
      if (waiting >> (i - base) & 1 && ((w->fibers[i].mask & lanes) != waiting || w->fibers[i].line != first->line)) return &w->fibers[i];
    for (unsigned i = base; i < end; i++)
      if (w->fibers[i].state == kWarp) w->fibers[i].state = kReady;
  }
  return nullptr;
}

static int runBlock(unsigned n, Launch* l) {
  if (w->fibers.size() < n) w->fibers.resize(n);
  if (w->lanes.size() < n) w->lanes.resize(n);
  unsigned i = 0;
  for (unsigned z = 0; z < w->blockDim.z; z++)
    for (unsigned y = 0; y < w->blockDim.y; y++)
      for (unsigned x = 0; x < w->blockDim.x; x++, i++) {
        w->fibers[i].thread = {x, y, z};
        w->fibers[i].linear = i;
        arm(w->fibers[i]);
      }
  auto fail = [&](const Fiber& f, const char* what, Outcome r) {
    snprintf(l->message, sizeof l->message, "block (%u, %u, %u), thread (%u, %u, %u): %s", w->block.x, w->block.y, w->block.z, f.thread.x, f.thread.y, f.thread.z, what);
    return (int)r;
  };
  char what[128];
  for (;;) {
    bool warps = false;
    for (unsigned k = 0; k < n; k++) {
      Fiber& f = w->fibers[l->reverse ? n - 1 - k : k];
      if (f.state == kReady) resume(f);
      if (f.state == kFault) return fail(f, "illegal address", kIllegalAddress);
      warps |= f.state == kWarp;
    }
    if (warps) {
      if (Fiber* f = releaseWarps(n)) {
        snprintf(what, sizeof what, "line %d: part of the warp does not reach this shuffle or barrier", f->line);
        return fail(*f, what, kLaunchFailed);
      }
      continue;
    }
    unsigned done = 0;
    Fiber* waits = nullptr;
    for (unsigned k = 0; k < n; k++) {
      Fiber& f = w->fibers[k];
      if (f.state == kDone) done++;
      else if (!waits) waits = &f;
    }
    if (done == n) return 0;
    for (unsigned k = 0; k < n; k++) {
      if (w->fibers[k].state == kBarrier && w->fibers[k].line == waits->line) {
        w->fibers[k].state = kReady;
        continue;
      }
      snprintf(what, sizeof what, "line %d: part of the block does not reach this __syncthreads()", waits->line);
      return fail(*waits, what, kLaunchFailed);
    }
  }
}

// Fills this thread's shared memory with noise.
static int fillShared(dl_phdr_info* info, size_t, void* address) {
  auto inside = (char*)address;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    auto& p = info->dlpi_phdr[i];
    auto data = (char*)info->dlpi_tls_data;
    if (p.p_type != PT_TLS || !data || inside < data || inside >= data + p.p_memsz) continue;
    Worker* own = w;
    dim3 thread = currentThread;
    memset(data, 0xCD, p.p_memsz);
    w = own;
    currentThread = thread;
    return 1;
  }
  return 0;
}

template <class... A, size_t... I>
static void spread(void (*f)(A...), void** p, std::index_sequence<I...>) {
  f(*(std::remove_cv_t<A>*)p[I]...);
}
template <class... A>
static inline void call(void (*f)(A...), void** p) { spread(f, p, std::index_sequence_for<A...>{}); }
template <class... A>
static constexpr int count(void (*)(A...)) { return sizeof...(A); }
template <class... A>
static const unsigned char* sizes(void (*)(A...)) {
  static_assert(((sizeof(A) <= 8) && ...), "a kernel's parameter has more than 8 bytes");
  static const unsigned char s[] = {(unsigned char)sizeof(A)..., 0};
  return s;
}

}  // namespace soft

extern "C" __attribute__((visibility("default"))) int softLaunch(const soft::Kernel* k, soft::Launch* l) {
  using namespace soft;
  const uint64_t blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
  const unsigned n = l->block[0] * l->block[1] * l->block[2];
  std::atomic<uint64_t> next{0};
  std::atomic<int> result{0};
  auto work = [&] {
    Worker& worker = *take();
    w = &worker;
    dl_iterate_phdr(fillShared, &w);
    worker.blockDim = {l->block[0], l->block[1], l->block[2]};
    worker.gridDim = {l->grid[0], l->grid[1], l->grid[2]};
    worker.entry = k->call;
    worker.arguments = l->arguments;
    worker.shared.assign(l->shared + 64, (char)0xCD);
    worker.landing = {fault, nullptr};
    l->guard(&worker.landing);
    while (!result) {
      uint64_t i = next.fetch_add(1);
      if (i >= blocks) break;
      if (l->reverse) i = blocks - 1 - i;
      worker.block = {(unsigned)(i % l->grid[0]), (unsigned)(i / l->grid[0] % l->grid[1]), (unsigned)(i / l->grid[0] / l->grid[1])};
      Launch local = *l;
      if (int r = runBlock(n, &local)) {
        int none = 0;
        if (result.compare_exchange_strong(none, r)) memcpy(l->message, local.message, sizeof l->message);
      }
    }
    l->guard(nullptr);
    w = nullptr;
    giveBack(&worker);
  };
  std::vector<std::thread> others;
  const uint64_t worthwhile = blocks * n / 4096;  // starting a thread takes as long as some thousand fibers
  for (int t = 1; t < l->threads && (uint64_t)t < std::min(blocks, worthwhile); t++) others.emplace_back(work);
  work();
  for (auto& t : others) t.join();
  return result;
}

namespace soft {
// shuffle returns what the lane shows.
template <class T>
static T shuffle(T v, int lane, unsigned mask, int line) {
  const int me = w->current->linear, base = me & ~31;
  uint64_t u = 0;
  static_assert(sizeof v <= 8, "");
  memcpy(&u, &v, sizeof v);
  w->lanes[me] = u;
  yield(kWarp, line, mask);
  const size_t from = std::min<size_t>(base + (lane & 31), w->lanes.size() - 1);
  T r;
  memcpy(&r, &w->lanes[from], sizeof r);
  yield(kWarp, line, mask);
  return r;
}
static inline int lane() { return w->current->linear & 31; }
}  // namespace soft

// ---- what kernels use of CUDA C

#define threadIdx (soft::currentThread)
#define blockIdx (soft::w->block)
#define blockDim (soft::w->blockDim)
#define gridDim (soft::w->gridDim)
#define warpSize 32

#define __syncthreads() soft::yield(soft::kBarrier, __LINE__, 0)
#define __syncwarp(...) soft::yield(soft::kWarp, __LINE__, ~0u)
#define __shfl_sync(m, v, l) soft::shuffle((v), (l), (m), __LINE__)
#define __shfl_xor_sync(m, v, o) soft::shuffle((v), soft::lane() ^ (o), (m), __LINE__)
#define __shfl_down_sync(m, v, o) soft::shuffle((v), soft::lane() + (o) > 31 ? soft::lane() : soft::lane() + (o), (m), __LINE__)

static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
#define __expf(x) std::exp((float)(x))  // glibc has functions of these names
#define __logf(x) std::log((float)(x))
#define __powf(x, y) std::pow((float)(x), (float)(y))
static inline float __fdividef(float a, float b) { return a / b; }
template <class T>
static inline T __ldg(const T* p) { return *p; }
static inline int __float_as_int(float f) { int i; memcpy(&i, &f, 4); return i; }
static inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
static inline unsigned __float_as_uint(float f) { unsigned i; memcpy(&i, &f, 4); return i; }
static inline float __uint_as_float(unsigned i) { float f; memcpy(&f, &i, 4); return f; }

// Rounded on their own: never part of a fused multiply and add.
template <class T>
static inline T softAlone(T v) { asm("" : "+x"(v)); return v; }
static inline double __dmul_rn(double a, double b) { return softAlone(a * b); }
static inline double __dadd_rn(double a, double b) { return softAlone(softAlone(a) + softAlone(b)); }
static inline float __fmul_rn(float a, float b) { return softAlone(a * b); }
static inline float __fadd_rn(float a, float b) { return softAlone(softAlone(a) + softAlone(b)); }

using std::max;
using std::min;

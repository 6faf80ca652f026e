//go:build cuda

#include "driver.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

// What stands in for a function without a driver, and for one that the driver
// lacks: CUDA_ERROR_NO_DEVICE and CUDA_ERROR_NOT_SUPPORTED.
static int no_driver(void) { return 100; }
static int not_supported(void) { return 801; }

// Each function is a jump to where slot_NAME points, whatever its parameters are.
#if defined(__x86_64__)
#define JUMP(name) "\tjmp *slot_" name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name) "\tadrp x16, slot_" name "\n\tldr x16, [x16, :lo12:slot_" name "]\n\tbr x16\n"
#else
#error "the driver is for amd64 and arm64"
#endif

#define SYMBOL(name)                                                       \
  __attribute__((visibility("hidden"), used)) void *slot_##name = (void *)no_driver; \
  __asm__(".text\n\t.globl " #name "\n\t.hidden " #name "\n\t.type " #name ", %function\n" #name ":\n" JUMP(#name) "\t.size " #name ", .-" #name "\n");
#include "symbols.h"
#undef SYMBOL

static const struct {
  const char *name;
  void **slot;
} table[] = {
#define SYMBOL(name) {#name, &slot_##name},
#include "symbols.h"
#undef SYMBOL
};

static char failure[512];

__attribute__((constructor)) static void open_driver(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char *why = dlerror();
    snprintf(failure, sizeof failure, "%s", why ? why : "libcuda.so.1 cannot be opened");
    return;
  }
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    void *function = dlsym(library, table[i].name);
    *table[i].slot = function ? function : (void *)not_supported;
  }
}

const char *pixpro_driver_failure(void) { return failure; }

int pixpro_driver_start(void) { return ((int (*)(unsigned))slot_cuInit)(0); }

const char *pixpro_driver_error_name(int status) {
  const char *name = NULL;
  if (((int (*)(int, const char **))slot_cuGetErrorName)(status, &name) || !name) return "";
  return name;
}

// Stands in for libcublas: matrix products by OpenBLAS, or by a plain loop
// where that is missing.
#include <dlfcn.h>

#include <cstring>
#include <set>
#include <vector>

#include "soft.h"
// after CUstream
#include "cublas.h"

namespace {

struct Handle {
  CUcontext context;
  CUstream stream;
  cublasMath_t math;
};
std::set<Handle*> alive;

Handle* lookup(cublasHandle_t h) {
  auto p = (Handle*)h;
  return alive.count(p) ? p : nullptr;
}

// round keeps the upper bits of x that a mantissa without the lower ones has,
// to nearest, ties to even.
float round(float x, int lower) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if ((u & 0x7f800000) == 0x7f800000) return x;  // infinity, not a number
  u += (1u << (lower - 1)) - 1 + (u >> lower & 1);
  u &= ~((1u << lower) - 1);
  memcpy(&x, &u, 4);
  return x;
}
const int kBF16 = 16, kTF32 = 13;  // bits that these have less than float32

float load(const void* p, size_t i, cudaDataType type) {
  if (type == CUDA_R_32F) return ((const float*)p)[i];
  uint32_t u = (uint32_t)((const uint16_t*)p)[i] << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

void store(void* p, size_t i, cudaDataType type, float v) {
  if (type == CUDA_R_32F) {
    ((float*)p)[i] = v;
    return;
  }
  v = round(v, kBF16);
  uint32_t u;
  memcpy(&u, &v, 4);
  ((uint16_t*)p)[i] = u >> 16;
}

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*, const float*, const int*, const float*, float*, const int*);

Sgemm library() {
  static Sgemm found = [] {
    void* h = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    return h ? (Sgemm)dlsym(h, "sgemm_") : nullptr;
  }();
  return found;
}

// multiply is C = alpha A B + beta C of dense column-major matrices.
void multiply(int m, int n, int k, float alpha, const float* a, const float* b, float beta, float* c) {
  if (Sgemm sgemm = library()) {
    sgemm("N", "N", &m, &n, &k, &alpha, a, &m, b, &k, &beta, c, &m);
    return;
  }
  for (int j = 0; j < n; j++) {
    std::vector<float> sum(m, 0.f);
    for (int l = 0; l < k; l++)
      for (int i = 0; i < m; i++) sum[i] += a[i + (size_t)l * m] * b[l + (size_t)j * k];
    for (int i = 0; i < m; i++) {
      float& out = c[i + (size_t)j * m];
      out = alpha * sum[i] + (beta != 0 ? beta * out : 0);
    }
  }
}

size_t bytes(cudaDataType t) { return t == CUDA_R_32F ? 4 : 2; }

// Bytes from the first to behind the last element of count matrices of
// rows x columns.
uint64_t extent(int rows, int columns, int ld, long long stride, int count, cudaDataType t) {
  return ((uint64_t)stride * (count - 1) + (uint64_t)ld * (columns - 1) + rows) * bytes(t);
}

}  // namespace

#define HANDLE                                 \
  ENTER(CUBLAS_STATUS_INTERNAL_ERROR);         \
  Handle* h = lookup(handle);                  \
  if (!h || h->context != soft::current()) return CUBLAS_STATUS_NOT_INITIALIZED

EXPORT cublasStatus_t cublasCreate_v2(cublasHandle_t* out) {
  ENTER(CUBLAS_STATUS_ALLOC_FAILED);
  if (!soft::current()) return CUBLAS_STATUS_NOT_INITIALIZED;
  auto h = new Handle{soft::current(), nullptr, CUBLAS_DEFAULT_MATH};
  alive.insert(h);
  soft::handles++;
  *out = (cublasHandle_t)h;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  Handle* h = lookup(handle);
  if (!h) return CUBLAS_STATUS_NOT_INITIALIZED;
  alive.erase(h);
  soft::handles--;
  delete h;
  return fails ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasGetProperty(int which, int* v) {
  ENTER(CUBLAS_STATUS_INTERNAL_ERROR);
  if (which < 0 || which > 2) return CUBLAS_STATUS_INVALID_VALUE;
  *v = which == 0 ? soft::version() / 1000 : which == 1 ? soft::version() % 1000 / 10 : 0;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t math) { HANDLE; h->math = math; return CUBLAS_STATUS_SUCCESS; }
EXPORT cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t s) { HANDLE; h->stream = (CUstream)s; return CUBLAS_STATUS_SUCCESS; }

// C = alpha op(A) op(B) + beta C, column-major, for each of count matrices.
EXPORT cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void* alphaAt, const void* A, cudaDataType At, int lda, long long sa, const void* B, cudaDataType Bt, int ldb, long long sb, const void* betaAt, void* C, cudaDataType Ct, int ldc, long long sc, int count, cublasComputeType_t compute, cublasGemmAlgo_t) {
  HANDLE;
  auto known = [](cudaDataType t) { return t == CUDA_R_16BF || t == CUDA_R_32F; };
  if (!known(At) || At != Bt || !known(Ct) || (At == CUDA_R_32F && Ct == CUDA_R_16BF)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (Ct == CUDA_R_16BF && !(h->math & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)) {
    fprintf(stderr, "softcuda: partial sums of a product with a bfloat16 result may be rounded to it: set the math mode\n");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!tf32 && compute != CUBLAS_COMPUTE_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (ta == CUBLAS_OP_C || tb == CUBLAS_OP_C) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (m < 0 || n < 0 || k < 0 || count < 0 || sa < 0 || sb < 0 || sc < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1 || ldc < 1) return CUBLAS_STATUS_INVALID_VALUE;
  // C's matrices lie behind one another, or side by side in the leading dimension.
  bool apart = sc >= (long long)ldc * (n - 1) + m || (sc >= m && sc * (count - 1) + m <= ldc);
  if (count > 1 && !apart) return CUBLAS_STATUS_INVALID_VALUE;
  if (!m || !n || !count) return CUBLAS_STATUS_SUCCESS;
  if (k && (!soft::inDevice((CUdeviceptr)A, extent(ta ? k : m, ta ? m : k, lda, sa, count, At)) ||
            !soft::inDevice((CUdeviceptr)B, extent(tb ? n : k, tb ? k : n, ldb, sb, count, Bt)))) {
    fprintf(stderr, "softcuda: cublasGemmStridedBatchedEx reads outside of an allocation\n");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!soft::inDevice((CUdeviceptr)C, extent(m, n, ldc, sc, count, Ct))) {
    fprintf(stderr, "softcuda: cublasGemmStridedBatchedEx writes outside of an allocation\n");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  float alpha = *(const float*)alphaAt, beta = *(const float*)betaAt;
  auto element = [tf32](const void* p, size_t i, cudaDataType t) {
    float v = load(p, i, t);
    return tf32 && t == CUDA_R_32F ? round(v, kTF32) : v;
  };
  CUresult r = soft::enqueue(h->stream, [=] {
    std::vector<float> a((size_t)m * k), b((size_t)k * n), c((size_t)m * n);
    for (int i = 0; i < count; i++) {
      if (i == 0 || sa)
        for (int l = 0; l < k; l++)
          for (int row = 0; row < m; row++) a[row + (size_t)l * m] = element(A, i * sa + (ta ? l + (size_t)row * lda : row + (size_t)l * lda), At);
      if (i == 0 || sb)
        for (int col = 0; col < n; col++)
          for (int l = 0; l < k; l++) b[l + (size_t)col * k] = element(B, i * sb + (tb ? col + (size_t)l * ldb : l + (size_t)col * ldb), Bt);
      if (beta != 0)
        for (int col = 0; col < n; col++)
          for (int row = 0; row < m; row++) c[row + (size_t)col * m] = load(C, i * sc + row + (size_t)col * ldc, Ct);
      multiply(m, n, k, alpha, a.data(), b.data(), beta, c.data());
      for (int col = 0; col < n; col++)
        for (int row = 0; row < m; row++) store(C, i * sc + row + (size_t)col * ldc, Ct, c[row + (size_t)col * m]);
    }
    return CUDA_SUCCESS;
  });
  return r ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

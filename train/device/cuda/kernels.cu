// The kernels of the CUDA device.
//
// They are compiled by NVRTC when a device is opened, and by a C++ compiler for
// the software device that the tests run on; so there is no include, and every
// kernel is extern "C". Tensors are rows x channels, the channels side by side.
// Threads along x take neighbouring channels, so that loads are coalesced; a
// kernel whose name ends in 4 takes four channels a thread by one load, where
// the channels are a multiple of four, and the one ending in 1 takes any.
// Sums have a fixed order and no atomics: results repeat bit for bit.

typedef long long int64;

// An activation is float32, or, compiled for bf16, the upper half of one.
#ifdef PIXPRO_BF16
struct activation { unsigned short bits; };
static __device__ __forceinline__ float widened(unsigned bits) { return __uint_as_float(bits << 16); }
// narrowed rounds to the nearest, to even in the middle; not-a-number stays one.
// The second goes into the upper half. Cards from 8.0 on do that in one
// instruction.
static __device__ __forceinline__ unsigned narrowed(float f, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(f));
  return both;
#else
  unsigned u = __float_as_uint(f), v = __float_as_uint(second);
  u = (u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  v = (v & 0x7fffffffu) > 0x7f800000u ? v >> 16 | 0x40u : (v + 0x7fffu + (v >> 16 & 1u)) >> 16;
  return u | v << 16;
#endif
}
#else
typedef float activation;
#endif

// Pack is V neighbouring values, read and written at once.
template <int V> struct Pack;
template <> struct Pack<1> {
  float v[1];
  __device__ __forceinline__ void read(const float* p) { v[0] = *p; }
  __device__ __forceinline__ void write(float* p) const { *p = v[0]; }
#ifdef PIXPRO_BF16
  __device__ __forceinline__ void read(const activation* p) { v[0] = widened(p->bits); }
  __device__ __forceinline__ void write(activation* p) const { p->bits = (unsigned short)narrowed(v[0], 0); }
#endif
};
template <> struct Pack<4> {
  float v[4];
  __device__ __forceinline__ void read(const float* p) {
    const float4 q = *(const float4*)p;
    v[0] = q.x; v[1] = q.y; v[2] = q.z; v[3] = q.w;
  }
  __device__ __forceinline__ void write(float* p) const { *(float4*)p = make_float4(v[0], v[1], v[2], v[3]); }
#ifdef PIXPRO_BF16
  __device__ __forceinline__ void read(const activation* p) {
    const uint2 q = *(const uint2*)p;
    v[0] = widened(q.x & 0xffffu); v[1] = widened(q.x >> 16);
    v[2] = widened(q.y & 0xffffu); v[3] = widened(q.y >> 16);
  }
  __device__ __forceinline__ void write(activation* p) const {
    *(uint2*)p = make_uint2(narrowed(v[0], v[1]), narrowed(v[2], v[3]));
  }
#endif
};

template <> struct Pack<8> {
  float v[8];
  __device__ __forceinline__ void read(const float* p) {
    const float4 q = ((const float4*)p)[0], r = ((const float4*)p)[1];
    v[0] = q.x; v[1] = q.y; v[2] = q.z; v[3] = q.w;
    v[4] = r.x; v[5] = r.y; v[6] = r.z; v[7] = r.w;
  }
#ifdef PIXPRO_BF16
  __device__ __forceinline__ void read(const activation* p) {
    const uint4 q = *(const uint4*)p;
    const unsigned bits[4] = {q.x, q.y, q.z, q.w};
    for (int k = 0; k < 4; k++) {
      v[2 * k] = widened(bits[k] & 0xffffu);
      v[2 * k + 1] = __uint_as_float(bits[k] & 0xffff0000u);
    }
  }
  __device__ __forceinline__ void write(activation* p) const {
    uint4 q;
    q.x = narrowed(v[0], v[1]); q.y = narrowed(v[2], v[3]);
    q.z = narrowed(v[4], v[5]); q.w = narrowed(v[6], v[7]);
    *(uint4*)p = q;
  }
#endif
};

// WIDE is how many activations have 16 bytes, the most that a thread reads at once.
#ifdef PIXPRO_BF16
#define WIDE 8
#else
#define WIDE 4
#endif

#define THREADS 256  // of every block

static __device__ __forceinline__ int64 thread_index() { return (int64)blockIdx.x * THREADS + threadIdx.x; }

// warp_sum adds over the 32 threads of a warp.
static __device__ __forceinline__ float warp_sum(float v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
static __device__ __forceinline__ double warp_sum(double v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}

// block_sum adds over a one-dimensional block; every thread gets the sum.
static __device__ double block_sum(double v) {
  __shared__ double part[THREADS / 32];
  v = warp_sum(v);
  __syncthreads();  // the last call's parts have been read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  double total = 0;
  for (int i = 0; i < THREADS / 32; i++) total += part[i];
  return total;
}

// ---------------------------------------------------------------- conversion

// dst[image][pixel][c] = src[image][c][pixel] * scale[c] + shift[c], which is
// (src/255 - mean) / std
extern "C" __global__ void upload_views(activation* dst, const unsigned char* src, int64 pixels, int area, float scale0, float scale1, float scale2, float shift0, float shift1, float shift2) {
  const int64 i = thread_index();
  if (i >= pixels) return;
  const int64 plane = i / area * 2 * area + i;  // (image * 3) * area + pixel
  Pack<1> p;
  p.v[0] = src[plane] * scale0 + shift0; p.write(dst + 3 * i);
  p.v[0] = src[plane + area] * scale1 + shift1; p.write(dst + 3 * i + 1);
  p.v[0] = src[plane + 2 * area] * scale2 + shift2; p.write(dst + 3 * i + 2);
}

// dst = src, rounded to an activation
extern "C" __global__ void narrow(activation* dst, const float* src, int64 n) {
  const int64 i = thread_index();
  if (i >= n) return;
  Pack<1> p;
  p.read(src + i);
  p.write(dst + i);
}

// dst, rows x lead, = src, rows x width, rounded to activations, and zeros behind
extern "C" __global__ void pad_rows(activation* dst, const float* src, int rows, int width, int lead) {
  const int i = (int)thread_index();
  if (i >= rows * lead) return;
  const int row = i / lead, column = i - row * lead;
  Pack<1> p;
  p.v[0] = column < width ? src[row * width + column] : 0;
  p.write(dst + i);
}

// dst = src
extern "C" __global__ void widen(float* dst, const activation* src, int64 n) {
  const int64 i = thread_index();
  if (i >= n) return;
  Pack<1> p;
  p.read(src + i);
  p.write(dst + i);
}

template <int V, class T> static __device__ __forceinline__ void add_to(T* dst, const T* src, int64 n) {
  const int64 i = thread_index() * V;
  if (i >= n) return;
  Pack<V> a, b;
  a.read(dst + i);
  b.read(src + i);
  for (int k = 0; k < V; k++) a.v[k] += b.v[k];
  a.write(dst + i);
}
// dst += src, of activations
extern "C" __global__ void add_1(activation* dst, const activation* src, int64 n) { add_to<1>(dst, src, n); }
extern "C" __global__ void add_4(activation* dst, const activation* src, int64 n) { add_to<4>(dst, src, n); }
// dst += src, of float32
extern "C" __global__ void add_float(float* dst, const float* src, int64 n) { add_to<1>(dst, src, n); }

// --------------------------------------------------------------- convolution

// A window's geometry: the input is images x h x w x channels, the output
// images x oh x ow; a receptive field is groups x kernel x kernel x channels/groups.
#define WINDOW int h, int w, int channels, int oh, int ow, int kernel, int stride, int padding, int dilation, int groups
#define WINDOW_ARGUMENTS h, w, channels, oh, ow, kernel, stride, padding, dilation, groups

// A thread has one column of the receptive fields, which begin lead apart, and walks
// over the rows of its block's chunk. Values are copied as they are, a T at once;
// channels and lead count Ts.
template <class T> static __device__ __forceinline__ void gather_windows(T* fields, const T* x, int lead, int first, int count, int chunk, WINDOW) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, size = kernel * kernel * channels;
  const int end = min(count, (int)(blockIdx.y + 1) * chunk);
  int row = blockIdx.y * chunk + threadIdx.y;
  if (column >= lead || row >= end) return;
  const unsigned height = column < size ? h : 0;  // behind a field there are zeros
  const int depth = channels / groups;
  int at = column / depth;
  const int kw = at % kernel; at /= kernel;
  const int kh = at % kernel; const int group = at / kernel;
  const int down = kh * dilation - padding, right = kw * dilation - padding;
  x += group * depth + column % depth;
  int place = first + row;  // of the output
  int ox = place % ow; place /= ow;
  int oy = place % oh, image = place / oh;
  T* to = fields + (int64)row * lead + column;
  for (;;) {
    const int y = oy * stride + down, across = ox * stride + right;
    T value = T();
    if ((unsigned)y < height && (unsigned)across < (unsigned)w) value = x[((int64)(image * h + y) * w + across) * channels];
    *to = value;
    row += blockDim.y;
    if (row >= end) return;
    to += (int64)blockDim.y * lead;
    for (ox += blockDim.y; ox >= ow; ox -= ow)
      if (++oy == oh) { oy = 0; image++; }
  }
}
struct alignas(16) Sixteen { activation v[WIDE]; };

// gather_values is gather_windows of channels that do not fill 16 bytes, such as
// views': a thread has as many columns as do.
static __device__ __forceinline__ void gather_values(activation* fields, const activation* __restrict__ x, int lead, int first, int count, int chunk, WINDOW) {
  const int column = (blockIdx.x * blockDim.x + threadIdx.x) * WIDE, size = kernel * kernel * channels;
  const int end = min(count, (int)(blockIdx.y + 1) * chunk);
  int row = blockIdx.y * chunk + threadIdx.y;
  if (column >= lead || row >= end) return;
  int down[WIDE], right[WIDE];
  unsigned offset[WIDE];  // from the window's first pixel
  for (int k = 0; k < WIDE; k++) {
    const int pixel = (column + k) / channels, kh = pixel / kernel;
    down[k] = kh * dilation - padding;
    right[k] = (pixel - kh * kernel) * dilation - padding;
    offset[k] = ((down[k] + padding) * w + right[k] + padding) * channels + (column + k - pixel * channels);
    if (column + k >= size) down[k] = -1 << 30;  // zeros
  }
  int place = first + row;  // of the output
  int ox = place % ow; place /= ow;
  int oy = place % oh, image = place / oh;
  activation* to = fields + (int64)row * lead + column;
  for (;;) {
    const int y = oy * stride, across = ox * stride;
    const activation* from = x + ((int64)(image * h + y - padding) * w + across - padding) * channels;
#ifdef __CUDA_ARCH__
    asm("" : "+l"(from));  // so that a value's address is this one and its offset, in one instruction
#endif
    Sixteen values;
    for (int k = 0; k < WIDE; k++) {
      values.v[k] = activation();
      if ((unsigned)(y + down[k]) < (unsigned)h && (unsigned)(across + right[k]) < (unsigned)w) values.v[k] = from[offset[k]];
    }
    *(Sixteen*)to = values;
    row += blockDim.y;
    if (row >= end) return;
    to += (int64)blockDim.y * lead;
    for (ox += blockDim.y; ox >= ow; ox -= ow)
      if (++oy == oh) { oy = 0; image++; }
  }
}

// fields[r] = the receptive field of output pixel first + r; 0 outside of x; a
// value a thread; 16 bytes of any channels, not in groups; 16 bytes
extern "C" __global__ void im2col_1(activation* fields, const activation* x, int lead, int first, int count, int chunk, WINDOW) { gather_windows(fields, x, lead, first, count, chunk, WINDOW_ARGUMENTS); }
extern "C" __global__ void im2col_values(activation* fields, const activation* x, int lead, int first, int count, int chunk, WINDOW) { gather_values(fields, x, lead, first, count, chunk, WINDOW_ARGUMENTS); }
extern "C" __global__ void im2col_16(uint4* fields, const uint4* x, int lead, int first, int count, int chunk, WINDOW) { gather_windows(fields, x, lead, first, count, chunk, WINDOW_ARGUMENTS); }

// Pixel is what a thread of a kernel over packs of V channels of pixels has.
template <int V> struct Pixel {
  int c, x, y, image;
  int64 at;  // elements
  __device__ __forceinline__ Pixel(int pack, int height, int width, int channels) {
    const int parts = channels / V;
    int place = pack / parts;
    c = (pack - place * parts) * V;
    at = (int64)pack * V;
    image = place / width;
    x = place - image * width;
    place = image;
    image = place / height;
    y = place - image * height;
  }
};

template <int V> static __device__ __forceinline__ void sum_windows(activation* dx, const activation* __restrict__ fields, int packs, int accumulate, WINDOW) {
  const int pack = (int)thread_index();
  if (pack >= packs) return;
  const Pixel<V> to(pack, h, w, channels);
  const int depth = channels / groups, size = kernel * kernel * channels, group = to.c / depth;
  fields += (int64)to.image * oh * ow * size + group * kernel * kernel * depth + (to.c - group * depth);
  Pack<V> sum, p;
  if (accumulate) sum.read(dx + to.at);
  else for (int k = 0; k < V; k++) sum.v[k] = 0;
  for (int kh = 0; kh < kernel; kh++) {
    const int top = to.y + padding - kh * dilation, oy = top / stride;
    if (top < 0 || oy * stride != top || oy >= oh) continue;
    for (int kw = 0; kw < kernel; kw++) {
      const int left = to.x + padding - kw * dilation, ox = left / stride;
      if (left < 0 || ox * stride != left || ox >= ow) continue;
      p.read(fields + (int64)(oy * ow + ox) * size + (kh * kernel + kw) * depth);
      for (int k = 0; k < V; k++) sum.v[k] += p.v[k];
    }
  }
  sum.write(dx + to.at);
}
// dx[place] = the sum over all fields that the place lies in (added if accumulate)
extern "C" __global__ void col2im_1(activation* dx, const activation* fields, int packs, int accumulate, WINDOW) { sum_windows<1>(dx, fields, packs, accumulate, WINDOW_ARGUMENTS); }
extern "C" __global__ void col2im_16(activation* dx, const activation* fields, int packs, int accumulate, WINDOW) { sum_windows<WIDE>(dx, fields, packs, accumulate, WINDOW_ARGUMENTS); }

// y[row][c] = bias[c]
extern "C" __global__ void fill_rows(activation* y, const float* bias, int64 elements, int channels) {
  const int64 i = thread_index();
  if (i >= elements) return;
  Pack<1> p;
  p.read(bias + i % channels);
  p.write(y + i);
}

// ------------------------------------------------------------- sums over rows
//
// A block is blockDim.x packs of channels times blockDim.y rows. It walks over
// the rows of its chunk (blockIdx.y) of its view (blockIdx.z). A thread has so few
// of them, 64 at most where they are summed, that float32 is enough for their sum;
// sums of threads and blocks are added in float64.

// Rows walks over those of a thread.
struct Rows {
  int row, end, by;
  int64 at, step;  // elements
  __device__ __forceinline__ Rows(int64 rows, int64 chunk, int channels, int c) {
    const int64 first = blockIdx.y * chunk;
    row = threadIdx.y;
    end = (int)min(chunk, rows - first);
    by = blockDim.y;
    at = (blockIdx.z * rows + first + row) * channels + c;
    step = (int64)by * channels;
  }
  __device__ __forceinline__ bool more() const { return row < end; }
  __device__ __forceinline__ void next() { row += by; at += step; }
};

// store_sums adds two sums per channel over the rows of a block and writes them
// to partial[view][chunk][2][channels].
template <int V> static __device__ __forceinline__ void store_sums(double* partial, const float* a, const float* b, int channels) {
  __shared__ float shared[2 * V * THREADS];
  const int t = threadIdx.y * blockDim.x + threadIdx.x, width = blockDim.x;
  for (int k = 0; k < V; k++) {
    shared[k * THREADS + t] = a[k];
    shared[(V + k) * THREADS + t] = b[k];
  }
  __syncthreads();
  double* out = partial + ((int64)blockIdx.z * gridDim.y + blockIdx.y) * 2 * channels;
  for (int i = t; i < 2 * V * width; i += THREADS) {
    const int k = i / width, x = i % width, c = (blockIdx.x * width + x) * V + k % V;
    if (c >= channels) continue;
    double sum = 0;
    for (int y = 0; y < (int)blockDim.y; y++) sum += shared[k * THREADS + y * width + x];
    out[k / V * channels + c] = sum;
  }
}

// A block of these has 32 channels, and a warp for each of SUMMERS parts of the
// chunks.
#define SUMMERS (THREADS / 32)
static __device__ __forceinline__ int summed_channel() { return blockIdx.x * 32 + threadIdx.x % 32; }

// load_sums adds the parts of a channel's two sums, in an order that the number of
// chunks alone decides. Every thread of the block calls it and gets them.
static __device__ __forceinline__ void load_sums(const double* __restrict__ partial, int view, int chunks, int channels, double* a, double* b) {
  __shared__ double shared[2][SUMMERS][32];
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32, c = summed_channel();
  double sum = 0, other = 0;
  if (c < channels)
    for (int i = part; i < chunks; i += SUMMERS) {
      const double* at = partial + ((int64)view * chunks + i) * 2 * channels + c;
      sum += at[0];
      other += at[channels];
    }
  __syncthreads();  // the last view's have been read
  shared[0][part][lane] = sum;
  shared[1][part][lane] = other;
  __syncthreads();
  *a = *b = 0;
  for (int i = 0; i < SUMMERS; i++) {
    *a += shared[0][i][lane];
    *b += shared[1][i][lane];
  }
}

// batch_norm_sums: about each channel's first value f in the view,
// partial = sum (x - f), sum (x - f)^2
template <int V> static __device__ __forceinline__ void batch_norm_sums(double* partial, const activation* __restrict__ x, int64 rows, int64 chunk, int channels) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  float sum[V], squares[V];
  for (int k = 0; k < V; k++) sum[k] = squares[k] = 0;
  if (c < channels) {
    Pack<V> first;
    first.read(x + blockIdx.z * rows * channels + c);
    for (Rows r(rows, chunk, channels, c); r.more(); r.next()) {
      Pack<V> p;
      p.read(x + r.at);
      for (int k = 0; k < V; k++) {
        const float d = p.v[k] - first.v[k];
        sum[k] += d;
        squares[k] += d * d;
      }
    }
  }
  store_sums<V>(partial, sum, squares, channels);
}
extern "C" __global__ void batch_norm_sums_1(double* partial, const activation* x, int64 rows, int64 chunk, int channels) { batch_norm_sums<1>(partial, x, rows, chunk, channels); }
extern "C" __global__ void batch_norm_sums_16(double* partial, const activation* x, int64 rows, int64 chunk, int channels) { batch_norm_sums<WIDE>(partial, x, rows, chunk, channels); }

// y = x scale + shift: computed again in the backward pass, to the same bits, of
// the same floats.
static __device__ __forceinline__ void scale_and_shift(float weight, float bias, float mean, float invstd, float* scale, float* shift) {
  *scale = weight * invstd;
  *shift = fmaf(-mean, *scale, bias);
}

// For each view in order: mean and variance from the sums;
// invstd = 1/sqrt(variance + epsilon); running += momentum (statistic - running),
// the variance by n/(n-1)
extern "C" __global__ void batch_norm_statistics(const double* partial, const activation* x, int64 rows, int chunks, int views, int channels, double epsilon, double momentum, float* mean, float* invstd, float* running_mean, float* running_var) {
  const int c = summed_channel();
  const double n = (double)rows;
  for (int g = 0; g < views; g++) {
    double sum, squares;
    load_sums(partial, g, chunks, channels, &sum, &squares);
    if (c >= channels || threadIdx.x >= 32) continue;
    Pack<1> first;
    first.read(x + (int64)g * rows * channels + c);
    const double m = first.v[0] + sum / n;
    double variance = squares / n - (sum / n) * (sum / n);
    if (variance < 0) variance = 0;
    mean[g * channels + c] = (float)m;
    invstd[g * channels + c] = (float)(1 / sqrt(variance + epsilon));
    const double unbiased = rows > 1 ? variance * n / (n - 1) : variance;
    running_mean[c] += (float)(momentum * (m - running_mean[c]));
    running_var[c] += (float)(momentum * (unbiased - running_var[c]));
  }
}

// mean = running_mean; invstd = 1 / sqrt(running_var + epsilon)
extern "C" __global__ void batch_norm_fixed(int channels, double epsilon, const float* running_mean, const float* running_var, float* mean, float* invstd) {
  const int c = (int)thread_index();
  if (c >= channels) return;
  mean[c] = running_mean[c];
  invstd[c] = (float)(1 / sqrt(running_var[c] + epsilon));
}

// Affine is the scale and shift of a thread's channels.
template <int V> struct Affine {
  Pack<V> scale, shift, mean;
  __device__ __forceinline__ Affine(const float* weight, const float* bias, const float* means, const float* invstds, int channels, int c) {
    Pack<V> w, b, i;
    w.read(weight + c);
    b.read(bias + c);
    mean.read(means + blockIdx.z * channels + c);
    i.read(invstds + blockIdx.z * channels + c);
    for (int k = 0; k < V; k++) scale_and_shift(w.v[k], b.v[k], mean.v[k], i.v[k], &scale.v[k], &shift.v[k]);
  }
  __device__ __forceinline__ float of(float x, int k) const { return x * scale.v[k] + shift.v[k]; }
};

// at_least is the larger one; not-a-number stays.
static __device__ __forceinline__ float at_least(float v, float least) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(v), "f"(least));
  return larger;
#else
  return v < least ? least : v;
#endif
}

template <int V, bool RESIDUAL> static __device__ __forceinline__ void batch_norm_apply(activation* __restrict__ y, const activation* __restrict__ x, const activation* __restrict__ residual, const float* weight, const float* bias, const float* mean, const float* invstd, int relu, int64 rows, int64 chunk, int channels) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (c >= channels) return;
  const Affine<V> a(weight, bias, mean, invstd, channels, c);
  const float least = relu ? 0 : __uint_as_float(0xff800000u);  // -infinity
  for (Rows r(rows, chunk, channels, c); r.more(); r.next()) {
    Pack<V> p, other;
    p.read(x + r.at);
    if (RESIDUAL) other.read(residual + r.at);
    for (int k = 0; k < V; k++) {
      float v = a.of(p.v[k], k);
      if (RESIDUAL) v += other.v[k];
      p.v[k] = at_least(v, least);
    }
    p.write(y + r.at);
  }
}
// y = (x - mean) invstd weight + bias + residual, which may be null, or 0 where
// that is less and relu is set
extern "C" __global__ void batch_norm_apply_1(activation* y, const activation* x, const activation* residual, const float* weight, const float* bias, const float* mean, const float* invstd, int relu, int64 rows, int64 chunk, int channels) { batch_norm_apply<1, false>(y, x, residual, weight, bias, mean, invstd, relu, rows, chunk, channels); }
extern "C" __global__ void batch_norm_apply_16(activation* y, const activation* x, const activation* residual, const float* weight, const float* bias, const float* mean, const float* invstd, int relu, int64 rows, int64 chunk, int channels) { batch_norm_apply<WIDE, false>(y, x, residual, weight, bias, mean, invstd, relu, rows, chunk, channels); }
extern "C" __global__ void batch_norm_residual_apply_1(activation* y, const activation* x, const activation* residual, const float* weight, const float* bias, const float* mean, const float* invstd, int relu, int64 rows, int64 chunk, int channels) { batch_norm_apply<1, true>(y, x, residual, weight, bias, mean, invstd, relu, rows, chunk, channels); }
extern "C" __global__ void batch_norm_residual_apply_16(activation* y, const activation* x, const activation* residual, const float* weight, const float* bias, const float* mean, const float* invstd, int relu, int64 rows, int64 chunk, int channels) { batch_norm_apply<WIDE, true>(y, x, residual, weight, bias, mean, invstd, relu, rows, chunk, channels); }

// What a gradient passes: everything, or where y, which has a residual, is above
// 0, or where what x gives is.
enum Mask { NONE, BY_Y, BY_X };

template <int V, Mask MASK> static __device__ __forceinline__ void batch_norm_backward_sums(double* partial, activation* __restrict__ dy, const activation* __restrict__ x, const activation* __restrict__ y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  float sum[V], product[V];
  for (int k = 0; k < V; k++) sum[k] = product[k] = 0;
  if (c < channels) {
    const Affine<V> a(weight, bias, mean, invstd, channels, c);
    for (Rows r(rows, chunk, channels, c); r.more(); r.next()) {
      Pack<V> g, p, out;
      g.read(dy + r.at);
      p.read(x + r.at);
      if (MASK == BY_Y) {
        out.read(y + r.at);
        for (int k = 0; k < V; k++) g.v[k] = out.v[k] > 0 ? g.v[k] : 0;
        g.write(dy + r.at);
      }
      for (int k = 0; k < V; k++) {
        if (MASK == BY_X) g.v[k] = a.of(p.v[k], k) > 0 ? g.v[k] : 0;
        sum[k] += g.v[k];
        product[k] += g.v[k] * (p.v[k] - a.mean.v[k]);
      }
    }
  }
  store_sums<V>(partial, sum, product, channels);
}
// partial = sum dy, sum dy (x - mean), of the dy that is passed; by_y leaves no
// other in dy
extern "C" __global__ void batch_norm_backward_sums_1(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<1, NONE>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_sums_16(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<WIDE, NONE>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_sums_by_y_1(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<1, BY_Y>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_sums_by_y_16(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<WIDE, BY_Y>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_sums_by_x_1(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<1, BY_X>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_sums_by_x_16(double* partial, activation* dy, const activation* x, const activation* y, const float* weight, const float* bias, const float* mean, const float* invstd, int64 rows, int64 chunk, int channels) { batch_norm_backward_sums<WIDE, BY_X>(partial, dy, x, y, weight, bias, mean, invstd, rows, chunk, channels); }

// With xhat = (x - mean) invstd and n rows a group:
// dbias += sum dy; dweight += sum dy xhat; dx = k0 dy + k1 (x - mean) + k2 of
// k0 = weight invstd, k1 = -k0 invstd (sum dy xhat)/n, k2 = -k0 (sum dy)/n
extern "C" __global__ void batch_norm_gradients(const double* partial, int64 rows, int chunks, int views, int channels, const float* weight, const float* invstd, float* dweight, float* dbias, float* k) {
  const int c = summed_channel();
  for (int g = 0; g < views; g++) {
    double sum, product;
    load_sums(partial, g, chunks, channels, &sum, &product);
    if (c >= channels || threadIdx.x >= 32) continue;
    const double inv = invstd[g * channels + c], n = (double)rows;
    dbias[c] += (float)sum;
    dweight[c] += (float)(product * inv);
    const double scale = weight[c] * inv;
    float* out = k + g * 3 * channels + c;
    out[0] = (float)scale;
    out[channels] = (float)(-scale * inv * inv * product / n);
    out[2 * channels] = (float)(-scale * sum / n);
  }
}

template <int V, Mask MASK> static __device__ __forceinline__ void batch_norm_backward_apply(activation* dx, const activation* dy, const activation* __restrict__ x, const float* weight, const float* bias, const float* mean, const float* invstd, const float* k012, int64 rows, int64 chunk, int channels) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (c >= channels) return;
  const Affine<V> a(weight, bias, mean, invstd, channels, c);
  Pack<V> k0, k1, k2;
  k0.read(k012 + blockIdx.z * 3 * channels + c);
  k1.read(k012 + (blockIdx.z * 3 + 1) * channels + c);
  k2.read(k012 + (blockIdx.z * 3 + 2) * channels + c);
  for (Rows r(rows, chunk, channels, c); r.more(); r.next()) {
    Pack<V> g, p;
    g.read(dy + r.at);
    p.read(x + r.at);
    for (int k = 0; k < V; k++) {
      if (MASK == BY_X) g.v[k] = a.of(p.v[k], k) > 0 ? g.v[k] : 0;
      g.v[k] = k0.v[k] * g.v[k] + (k1.v[k] * (p.v[k] - a.mean.v[k]) + k2.v[k]);
    }
    g.write(dx + r.at);
  }
}
// dx = k0 dy + k1 (x - mean) + k2, of the dy that is passed
extern "C" __global__ void batch_norm_backward_apply_1(activation* dx, const activation* dy, const activation* x, const float* weight, const float* bias, const float* mean, const float* invstd, const float* k012, int64 rows, int64 chunk, int channels) { batch_norm_backward_apply<1, NONE>(dx, dy, x, weight, bias, mean, invstd, k012, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_apply_16(activation* dx, const activation* dy, const activation* x, const float* weight, const float* bias, const float* mean, const float* invstd, const float* k012, int64 rows, int64 chunk, int channels) { batch_norm_backward_apply<WIDE, NONE>(dx, dy, x, weight, bias, mean, invstd, k012, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_apply_by_x_1(activation* dx, const activation* dy, const activation* x, const float* weight, const float* bias, const float* mean, const float* invstd, const float* k012, int64 rows, int64 chunk, int channels) { batch_norm_backward_apply<1, BY_X>(dx, dy, x, weight, bias, mean, invstd, k012, rows, chunk, channels); }
extern "C" __global__ void batch_norm_backward_apply_by_x_16(activation* dx, const activation* dy, const activation* x, const float* weight, const float* bias, const float* mean, const float* invstd, const float* k012, int64 rows, int64 chunk, int channels) { batch_norm_backward_apply<WIDE, BY_X>(dx, dy, x, weight, bias, mean, invstd, k012, rows, chunk, channels); }

// partial = sum over the rows of x (the second sum is 0)
extern "C" __global__ void column_sums(double* partial, const activation* __restrict__ x, int64 rows, int64 chunk, int channels) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = 0, none = 0;
  if (c < channels) {
    for (Rows r(rows, chunk, channels, c); r.more(); r.next()) {
      Pack<1> p;
      p.read(x + r.at);
      sum += p.v[0];
    }
  }
  store_sums<1>(partial, &sum, &none, channels);
}
// dst += the sums of column_sums
extern "C" __global__ void add_column_sums(float* dst, const double* partial, int chunks, int channels) {
  const int c = summed_channel();
  double sum, none;
  load_sums(partial, 0, chunks, channels, &sum, &none);
  if (c < channels && threadIdx.x < 32) dst[c] += (float)sum;
}

// dst, rows x width, += the sums of parts, which are rows x lead, one behind the
// other, in their order
extern "C" __global__ void add_parts(float* dst, const float* __restrict__ parts, int count, int rows, int width, int lead) {
  const int i = (int)thread_index();
  if (i >= rows * width) return;
  const int row = i / width;
  parts += (int64)row * lead + (i - row * width);
  double sum = dst[i];
  for (int p = 0; p < count; p++, parts += (int64)rows * lead) sum += *parts;
  dst[i] = (float)sum;
}

// -------------------------------------------------------------------- pooling

template <int V> static __device__ __forceinline__ void max_pool(activation* __restrict__ y, const activation* __restrict__ x, int packs, WINDOW) {
  const int pack = (int)thread_index();
  if (pack >= packs) return;
  const Pixel<V> to(pack, oh, ow, channels);
  const int top = to.y * stride - padding, left = to.x * stride - padding;
  x += (int64)to.image * h * w * channels + to.c;
  Pack<V> best, p;
  for (int k = 0; k < V; k++) best.v[k] = __uint_as_float(0xff800000u);  // -infinity
  for (int kh = 0; kh < kernel; kh++) {
    const int yy = top + kh * dilation;
    if (yy < 0 || yy >= h) continue;
    for (int kw = 0; kw < kernel; kw++) {
      const int xx = left + kw * dilation;
      if (xx < 0 || xx >= w) continue;
      p.read(x + (int64)(yy * w + xx) * channels);
      for (int k = 0; k < V; k++) best.v[k] = p.v[k] > best.v[k] ? p.v[k] : best.v[k];
    }
  }
  best.write(y + to.at);
}
// y = max over the window of x
extern "C" __global__ void max_pool_1(activation* y, const activation* x, int packs, WINDOW) { max_pool<1>(y, x, packs, WINDOW_ARGUMENTS); }
extern "C" __global__ void max_pool_16(activation* y, const activation* x, int packs, WINDOW) { max_pool<WIDE>(y, x, packs, WINDOW_ARGUMENTS); }

template <int V> static __device__ __forceinline__ void max_pool_backward(activation* __restrict__ dx, const activation* __restrict__ dy, const activation* __restrict__ x, const activation* __restrict__ y, int packs, WINDOW) {
  const int pack = (int)thread_index();
  if (pack >= packs) return;
  const Pixel<V> to(pack, h, w, channels);
  const int64 input = (int64)to.image * h * w * channels + to.c, output = (int64)to.image * oh * ow * channels + to.c;
  Pack<V> own, sum;
  own.read(x + to.at);
  for (int k = 0; k < V; k++) sum.v[k] = 0;
  for (int kh = 0; kh < kernel; kh++) {
    const int down = to.y + padding - kh * dilation, oy = down / stride;
    if (down < 0 || oy * stride != down || oy >= oh) continue;
    for (int kw = 0; kw < kernel; kw++) {
      const int right = to.x + padding - kw * dilation, ox = right / stride;
      if (right < 0 || ox * stride != right || ox >= ow) continue;
      const int64 at = output + (int64)(oy * ow + ox) * channels;
      Pack<V> top, other;
      top.read(y + at);
      unsigned first = 0;  // a bit for each channel whose first maximum is here
      for (int k = 0; k < V; k++) first |= own.v[k] == top.v[k] ? 1u << k : 0u;
      for (int before = 0; before < kh * kernel + kw && first; before++) {
        const int yy = down - padding + before / kernel * dilation, xx = right - padding + before % kernel * dilation;
        if (yy < 0 || yy >= h || xx < 0 || xx >= w) continue;
        other.read(x + input + (int64)(yy * w + xx) * channels);
        for (int k = 0; k < V; k++) first &= other.v[k] == top.v[k] ? ~(1u << k) : ~0u;
      }
      if (!first) continue;
      other.read(dy + at);
      for (int k = 0; k < V; k++) sum.v[k] += first >> k & 1u ? other.v[k] : 0;
    }
  }
  sum.write(dx + to.at);
}
// dx[place] = sum of dy over the windows whose first maximum lies there
extern "C" __global__ void max_pool_backward_1(activation* dx, const activation* dy, const activation* x, const activation* y, int packs, WINDOW) { max_pool_backward<1>(dx, dy, x, y, packs, WINDOW_ARGUMENTS); }
extern "C" __global__ void max_pool_backward_16(activation* dx, const activation* dy, const activation* x, const activation* y, int packs, WINDOW) { max_pool_backward<WIDE>(dx, dy, x, y, packs, WINDOW_ARGUMENTS); }

// y = sum over the window of x / kernel^2
extern "C" __global__ void average_pool(activation* y, const activation* x, int64 elements, WINDOW) {
  const int64 i = thread_index();
  if (i >= elements) return;
  const int c = (int)(i % channels);
  const int64 row = i / channels, image = row / ((int64)oh * ow);
  const int pixel = (int)(row % ((int64)oh * ow));
  float sum = 0;
  Pack<1> p;
  for (int kh = 0; kh < kernel; kh++)
    for (int kw = 0; kw < kernel; kw++) {
      p.read(x + ((image * h + pixel / ow * stride + kh) * w + pixel % ow * stride + kw) * channels + c);
      sum += p.v[0];
    }
  p.v[0] = sum / (kernel * kernel);
  p.write(y + i);
}

// dx[place] = sum over the windows that it lies in of dy / kernel^2
extern "C" __global__ void average_pool_backward(activation* dx, const activation* dy, int64 elements, WINDOW) {
  const int64 i = thread_index();
  if (i >= elements) return;
  const int c = (int)(i % channels);
  const int64 place = i / channels;
  const int px = (int)(place % w), py = (int)(place / w % h);
  const int64 image = place / w / h;
  float sum = 0;
  Pack<1> p;
  for (int kh = 0; kh < kernel; kh++) {
    const int down = py - kh;
    if (down < 0 || down % stride || down / stride >= oh) continue;
    for (int kw = 0; kw < kernel; kw++) {
      const int right = px - kw;
      if (right < 0 || right % stride || right / stride >= ow) continue;
      p.read(dy + ((image * oh + down / stride) * ow + right / stride) * channels + c);
      sum += p.v[0];
    }
  }
  p.v[0] = sum / (kernel * kernel);
  p.write(dx + i);
}

// ------------------------------------------------------ lengths of the channels
//
// One warp a row.

#define LEAST_LENGTH 1e-12f

// norms = |x|; y = x / max(|x|, 1e-12)
extern "C" __global__ void normalize(float* y, float* norms, const activation* x, int64 rows, int channels) {
  const int64 row = (int64)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) return;
  float sum = 0;
  Pack<1> p;
  for (int c = lane; c < channels; c += 32) {
    p.read(x + row * channels + c);
    sum += p.v[0] * p.v[0];
  }
  const float norm = sqrtf(warp_sum(sum));
  if (lane == 0) norms[row] = norm;
  const float inv = 1 / fmaxf(norm, LEAST_LENGTH);
  for (int c = lane; c < channels; c += 32) {
    p.read(x + row * channels + c);
    y[row * channels + c] = p.v[0] * inv;
  }
}

// dx = (dy - y (y . dy)) / norm, or dy / 1e-12 where the norm is below that
extern "C" __global__ void normalize_backward(activation* dx, const float* dy, const float* y, const float* norms, int64 rows, int channels) {
  const int64 row = (int64)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) return;
  const float norm = norms[row];
  float dot = 0;
  if (norm > LEAST_LENGTH)
    for (int c = lane; c < channels; c += 32) dot += y[row * channels + c] * dy[row * channels + c];
  dot = warp_sum(dot);
  const float inv = 1 / fmaxf(norm, LEAST_LENGTH);
  Pack<1> p;
  for (int c = lane; c < channels; c += 32) {
    p.v[0] = (dy[row * channels + c] - y[row * channels + c] * dot) * inv;
    p.write(dx + row * channels + c);
  }
}

// ---------------------------------------------------------- pixel propagation

// s = max(cosine, clamp)^gamma; where gamma < 1, 1e-6 is added to the base
static __device__ __forceinline__ float similarity_of(float cosine, float gamma, float clamp, float* slope) {
  float base = fmaxf(cosine, clamp);
  if (gamma < 1) base += 1e-6f;
  float value;
  if (gamma == 1) { value = base; *slope = 1; }
  else if (gamma == 2) { value = base * base; *slope = 2 * base; }
  else { value = powf(base, gamma); *slope = gamma * powf(base, gamma - 1); }
  if (cosine < clamp) *slope = 0;
  return value;
}

extern "C" __global__ void similarity(activation* s, const float* cosines, int64 n, float gamma, float clamp) {
  const int64 i = thread_index();
  if (i >= n) return;
  float slope;
  Pack<1> p;
  p.v[0] = similarity_of(cosines[i], gamma, clamp, &slope);
  p.write(s + i);
}

// s as above; dc = ds ds/dcosine, in place of ds
extern "C" __global__ void similarity_backward(activation* s, float* dc, const float* cosines, int64 n, float gamma, float clamp) {
  const int64 i = thread_index();
  if (i >= n) return;
  float slope;
  Pack<1> p;
  p.v[0] = similarity_of(cosines[i], gamma, clamp, &slope);
  p.write(s + i);
  dc[i] *= slope;
}

// ------------------------------------------------- parts of losses and of heads
//
// Rows are summed by a warp each (_warp), or, if they are long, by a block
// (_block): a team of TEAM threads. A mask, which may be null, lets through
// where it is not 0.

static __device__ __forceinline__ float warp_max(float v) {
  for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}

// block_max is the largest value of a one-dimensional block, for every thread.
static __device__ float block_max(float v) {
  __shared__ float part[THREADS / 32];
  v = warp_max(v);
  __syncthreads();  // the last call's parts have been read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = part[0];
  for (int i = 1; i < THREADS / 32; i++) v = fmaxf(v, part[i]);
  return v;
}

template <int TEAM> static __device__ __forceinline__ double team_sum(double v) { return TEAM == 32 ? warp_sum(v) : block_sum(v); }
template <int TEAM> static __device__ __forceinline__ float team_max(float v) { return TEAM == 32 ? warp_max(v) : block_max(v); }
// team_row is the row of a thread's team, COLUMNS_OF its columns that the thread takes.
template <int TEAM> static __device__ __forceinline__ int64 team_row() { return (int64)blockIdx.x * (THREADS / TEAM) + threadIdx.x / TEAM; }
#define COLUMNS_OF(j) for (int j = threadIdx.x % TEAM; j < columns; j += TEAM)

#define MINUS_INFINITY __uint_as_float(0xff800000u)
#define NOT_A_NUMBER __uint_as_float(0x7fc00000u)

static __device__ __forceinline__ bool passes(const float* mask, int64 i) { return !mask || mask[i] != 0; }

// exponentials: of what the mask lets through in a row, largest = max x / tau,
// and the sum of exp(x / tau - largest) is returned
template <int TEAM> static __device__ __forceinline__ double exponentials(const float* x, const float* mask, int64 at, int columns, double tau, double* largest) {
  float most = MINUS_INFINITY;
  COLUMNS_OF(j) if (passes(mask, at + j)) most = fmaxf(most, x[at + j]);
  *largest = team_max<TEAM>(most) / tau;
  double sum = 0;
  COLUMNS_OF(j) if (passes(mask, at + j)) sum += exp(x[at + j] / tau - *largest);
  return team_sum<TEAM>(sum);
}

template <int TEAM> static __device__ __forceinline__ void softmax(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) {
  const int64 row = team_row<TEAM>(), at = row * columns;
  if (row >= rows) return;
  double largest;
  const double sum = exponentials<TEAM>(x, mask, at, columns, tau, &largest);
  COLUMNS_OF(j) y[at + j] = passes(mask, at + j) ? (float)(exp(x[at + j] / tau - largest) / sum) : 0.0f;
}
// y = exp(x / tau) / sum of those that the mask lets through in the row
extern "C" __global__ void softmax_warp(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) { softmax<32>(y, x, mask, rows, columns, tau); }
extern "C" __global__ void softmax_block(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) { softmax<THREADS>(y, x, mask, rows, columns, tau); }

template <int TEAM> static __device__ __forceinline__ void softmax_backward(float* dx, const float* dy, const float* y, int64 rows, int columns, double tau) {
  const int64 row = team_row<TEAM>(), at = row * columns;
  if (row >= rows) return;
  double dot = 0;
  COLUMNS_OF(j) dot += (double)y[at + j] * dy[at + j];
  dot = team_sum<TEAM>(dot);
  COLUMNS_OF(j) dx[at + j] = (float)(y[at + j] * (dy[at + j] - dot) / tau);
}
// dx = y (dy - sum y dy) / tau
extern "C" __global__ void softmax_backward_warp(float* dx, const float* dy, const float* y, int64 rows, int columns, double tau) { softmax_backward<32>(dx, dy, y, rows, columns, tau); }
extern "C" __global__ void softmax_backward_block(float* dx, const float* dy, const float* y, int64 rows, int columns, double tau) { softmax_backward<THREADS>(dx, dy, y, rows, columns, tau); }

template <int TEAM> static __device__ __forceinline__ void log_sum_exp(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) {
  const int64 row = team_row<TEAM>();
  if (row >= rows) return;
  double largest;
  const double sum = exponentials<TEAM>(x, mask, row * columns, columns, tau, &largest);
  if (threadIdx.x % TEAM == 0) y[row] = (float)(largest + log(sum));
}
// y = log sum exp(x / tau) over what the mask lets through in the row
extern "C" __global__ void log_sum_exp_warp(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) { log_sum_exp<32>(y, x, mask, rows, columns, tau); }
extern "C" __global__ void log_sum_exp_block(float* y, const float* x, const float* mask, int64 rows, int columns, double tau) { log_sum_exp<THREADS>(y, x, mask, rows, columns, tau); }

// dx = dy exp(x / tau - y) / tau, 0 where the mask does not let through
extern "C" __global__ void log_sum_exp_backward(float* dx, const float* dy, const float* y, const float* x, const float* mask, int64 elements, int columns, double tau) {
  const int64 i = thread_index();
  if (i >= elements) return;
  const int64 row = i / columns;
  dx[i] = passes(mask, i) ? (float)(dy[row] / tau * exp(x[i] / tau - y[row])) : 0.0f;
}

template <int TEAM> static __device__ __forceinline__ void mean(float* y, const float* x, const float* mask, int64 rows, int columns) {
  const int64 row = team_row<TEAM>(), at = row * columns;
  if (row >= rows) return;
  double sum = 0, count = 0;
  COLUMNS_OF(j) if (passes(mask, at + j)) {
    sum += x[at + j];
    count++;
  }
  sum = team_sum<TEAM>(sum);
  count = team_sum<TEAM>(count);
  if (threadIdx.x % TEAM == 0) y[row] = (float)(sum / fmax(count, 1.0));
}
// y = mean of what the mask lets through in the row, 0 where there is nothing
extern "C" __global__ void mean_warp(float* y, const float* x, const float* mask, int64 rows, int columns) { mean<32>(y, x, mask, rows, columns); }
extern "C" __global__ void mean_block(float* y, const float* x, const float* mask, int64 rows, int columns) { mean<THREADS>(y, x, mask, rows, columns); }

template <int TEAM> static __device__ __forceinline__ void mean_backward(float* dx, const float* dy, const float* mask, int64 rows, int columns) {
  const int64 row = team_row<TEAM>(), at = row * columns;
  if (row >= rows) return;
  double count = 0;
  COLUMNS_OF(j) count += passes(mask, at + j) ? 1.0 : 0.0;
  const float share = (float)(dy[row] / fmax(team_sum<TEAM>(count), 1.0));
  COLUMNS_OF(j) dx[at + j] = passes(mask, at + j) ? share : 0.0f;
}
// dx = dy / count of what the mask lets through in the row, 0 elsewhere
extern "C" __global__ void mean_backward_warp(float* dx, const float* dy, const float* mask, int64 rows, int columns) { mean_backward<32>(dx, dy, mask, rows, columns); }
extern "C" __global__ void mean_backward_block(float* dx, const float* dy, const float* mask, int64 rows, int columns) { mean_backward<THREADS>(dx, dy, mask, rows, columns); }

template <int TEAM> static __device__ __forceinline__ void arg_max(float* index, const float* x, int64 rows, int columns) {
  const int64 row = team_row<TEAM>(), at = row * columns;
  if (row >= rows) return;
  float most = MINUS_INFINITY;
  COLUMNS_OF(j) most = fmaxf(most, x[at + j]);
  most = team_max<TEAM>(most);
  int first = columns;
  COLUMNS_OF(j) if (x[at + j] == most) first = min(first, j);
  first = (int)-team_max<TEAM>(-(float)first);  // the least of the team, exact below 2^24
  if (threadIdx.x % TEAM == 0) index[row] = first < columns ? (float)first : 0.0f;
}
// index = the first column of the row's largest value
extern "C" __global__ void arg_max_warp(float* index, const float* x, int64 rows, int columns) { arg_max<32>(index, x, rows, columns); }
extern "C" __global__ void arg_max_block(float* index, const float* x, int64 rows, int columns) { arg_max<THREADS>(index, x, rows, columns); }

// y[batch][i] = x[batch][index[batch][i]], rows of so many columns; not-a-number
// where the index is no row's
extern "C" __global__ void gather_rows(float* y, const float* x, const float* index, int64 elements, int count, int rows, int columns) {
  const int64 i = thread_index();
  if (i >= elements) return;
  const int64 taken = i / columns;
  const float from = index[taken];
  const bool sound = from >= 0 && from < rows && from == (float)(int)from;
  y[i] = sound ? x[(taken / count * rows + (int)from) * columns + i % columns] : NOT_A_NUMBER;
}

// dx[batch][r] += sum of dy[batch][i] over the i with index[batch][i] = r
extern "C" __global__ void gather_rows_backward(float* dx, const float* dy, const float* index, int64 elements, int count, int rows, int columns) {
  const int64 i = thread_index();
  if (i >= elements) return;
  const int64 first = i / columns / rows * count;
  const float row = (float)(int)(i / columns % rows);
  float sum = 0;
  for (int k = 0; k < count; k++)
    if (index[first + k] == row) sum += dy[(first + k) * columns + i % columns];
  dx[i] += sum;
}

// y = alpha a + beta b; b may be null
extern "C" __global__ void combine(float* y, float alpha, const float* a, float beta, const float* b, int64 n) {
  const int64 i = thread_index();
  if (i >= n) return;
  y[i] = b ? alpha * a[i] + beta * b[i] : alpha * a[i];
}

template <class T> static __device__ __forceinline__ void copy_block(T* dst, int64 wide, const T* src, int64 high, int64 elements, int columns) {
  const int64 i = thread_index();
  if (i >= elements) return;
  dst[i / columns * wide + i % columns] = src[i / columns * high + i % columns];
}
// dst[r][c] = src[r][c] of a block whose rows are wide and high values apart
extern "C" __global__ void copy_floats(float* dst, int64 wide, const float* src, int64 high, int64 elements, int columns) { copy_block(dst, wide, src, high, elements, columns); }
extern "C" __global__ void copy_activations(activation* dst, int64 wide, const activation* src, int64 high, int64 elements, int columns) { copy_block(dst, wide, src, high, elements, columns); }

template <int V> static __device__ __forceinline__ void relu(activation* y, const activation* x, int64 n) {
  const int64 i = thread_index() * V;
  if (i >= n) return;
  Pack<V> p;
  p.read(x + i);
  for (int k = 0; k < V; k++) p.v[k] = p.v[k] < 0 ? 0 : p.v[k];
  p.write(y + i);
}
// y = max(x, 0)
extern "C" __global__ void relu_1(activation* y, const activation* x, int64 n) { relu<1>(y, x, n); }
extern "C" __global__ void relu_4(activation* y, const activation* x, int64 n) { relu<4>(y, x, n); }

template <int V> static __device__ __forceinline__ void relu_backward(activation* dx, const activation* dy, const activation* y, int64 n) {
  const int64 i = thread_index() * V;
  if (i >= n) return;
  Pack<V> p, o;
  p.read(dy + i);
  o.read(y + i);
  for (int k = 0; k < V; k++) p.v[k] = o.v[k] > 0 ? p.v[k] : 0;
  p.write(dx + i);
}
// dx = dy where y > 0, else 0
extern "C" __global__ void relu_backward_1(activation* dx, const activation* dy, const activation* y, int64 n) { relu_backward<1>(dx, dy, y, n); }
extern "C" __global__ void relu_backward_4(activation* dx, const activation* dy, const activation* y, int64 n) { relu_backward<4>(dx, dy, y, n); }

template <int V> static __device__ __forceinline__ void upsample(activation* y, const activation* x, int64 elements, int height, int width, int channels, int factor) {
  const int64 i = thread_index() * V;
  if (i >= elements) return;
  const int c = (int)(i % channels);
  const int64 cell = i / channels;  // of y, height factor x width factor
  const int column = (int)(cell % ((int64)width * factor)) / factor;
  const int row = (int)(cell / ((int64)width * factor) % ((int64)height * factor)) / factor;
  const int64 image = cell / ((int64)width * factor) / ((int64)height * factor);
  Pack<V> p;
  p.read(x + ((image * height + row) * width + column) * channels + c);
  p.write(y + i);
}
// y = x, each cell of height x width repeated factor x factor times
extern "C" __global__ void upsample_1(activation* y, const activation* x, int64 elements, int height, int width, int channels, int factor) { upsample<1>(y, x, elements, height, width, channels, factor); }
extern "C" __global__ void upsample_4(activation* y, const activation* x, int64 elements, int height, int width, int channels, int factor) { upsample<4>(y, x, elements, height, width, channels, factor); }

template <int V> static __device__ __forceinline__ void upsample_backward(activation* dx, const activation* dy, int64 elements, int width, int channels, int factor) {
  const int64 i = thread_index() * V;
  if (i >= elements) return;
  const int c = (int)(i % channels);
  const int64 cell = i / channels, line = cell / width, column = cell % width;  // line: of all images
  Pack<V> sum, p;
  for (int k = 0; k < V; k++) sum.v[k] = 0;
  for (int a = 0; a < factor; a++)
    for (int b = 0; b < factor; b++) {
      p.read(dy + ((line * factor + a) * width * factor + column * factor + b) * channels + c);
      for (int k = 0; k < V; k++) sum.v[k] += p.v[k];
    }
  sum.write(dx + i);
}
// dx = sum of dy over the factor x factor cells that repeat it
extern "C" __global__ void upsample_backward_1(activation* dx, const activation* dy, int64 elements, int width, int channels, int factor) { upsample_backward<1>(dx, dy, elements, width, channels, factor); }
extern "C" __global__ void upsample_backward_4(activation* dx, const activation* dy, int64 elements, int width, int channels, int factor) { upsample_backward<4>(dx, dy, elements, width, channels, factor); }

// --------------------------------------------------------------- pixel losses
//
// One block an image. Its queries' cells are rows x cols over the crop
// coord_q[image] = (x0, y0, x1, y1), its keys' the same over coord_k of image
// (image + shift) mod images. A pair of cells is positive where the distance
// of their centres is below threshold times the larger cell diagonal. This is
// in float64 without fused operations, so that a distance at the threshold
// falls on the same side as on other devices.

static __device__ __forceinline__ double hypotenuse(double x, double y) { return sqrt(__dadd_rn(__dmul_rn(x, x), __dmul_rn(y, y))); }

struct Grid {
  double x0, y0, width, height;
  __device__ __forceinline__ void read(const float* c, int rows, int cols) {
    x0 = c[0]; y0 = c[1];
    width = ((double)c[2] - (double)c[0]) / cols;
    height = ((double)c[3] - (double)c[1]) / rows;
  }
};

struct Pairs {
  Grid q, k;
  double unit, threshold;
  int cols;
  __device__ __forceinline__ void read(const float* coord_q, const float* coord_k, int rows, int columns, double limit) {
    q.read(coord_q, rows, columns);
    k.read(coord_k, rows, columns);
    unit = fmax(hypotenuse(q.width, q.height), hypotenuse(k.width, k.height));
    threshold = limit;
    cols = columns;
  }
  __device__ __forceinline__ bool positive(int i, int j) const {
    const double xq = __dadd_rn(q.x0, __dmul_rn(i % cols + 0.5, q.width)), yq = __dadd_rn(q.y0, __dmul_rn(i / cols + 0.5, q.height));
    const double xk = __dadd_rn(k.x0, __dmul_rn(j % cols + 0.5, k.width)), yk = __dadd_rn(k.y0, __dmul_rn(j / cols + 0.5, k.height));
    return hypotenuse(xq - xk, yq - yk) / unit < threshold;
  }
};

// mask = 1 for positive pairs, 0 for others
extern "C" __global__ void positives(float* mask, const float* coord_q, const float* coord_k, int images, int rows, int cols, int shift, double threshold) {
  const int image = blockIdx.x, cells = rows * cols;
  Pairs pairs;
  pairs.read(coord_q + 4 * image, coord_k + 4 * ((image + shift) % images), rows, cols, threshold);
  for (int p = threadIdx.x; p < cells * cells; p += THREADS) mask[(int64)image * cells * cells + p] = pairs.positive(p / cells, p % cells) ? 1.0f : 0.0f;
}

// loss = f sum of the positive pairs' cosines, f = -2 scale / (positives + 1e-6);
// cosines = d loss / d cosine: f for positive pairs, 0 for others
extern "C" __global__ void pixpro_loss(float* losses, float* cosines, const float* coord_q, const float* coord_k, int images, int rows, int cols, int shift, double threshold, double scale) {
  const int image = blockIdx.x, cells = rows * cols;
  Pairs pairs;
  pairs.read(coord_q + 4 * image, coord_k + 4 * ((image + shift) % images), rows, cols, threshold);
  float* cos = cosines + (int64)image * cells * cells;
  double count = 0, sum = 0;
  for (int p = threadIdx.x; p < cells * cells; p += THREADS)
    if (pairs.positive(p / cells, p % cells)) {
      count++;
      sum += cos[p];
    }
  count = block_sum(count);
  sum = block_sum(sum);
  const double factor = -2 * scale / (count + 1e-6);
  for (int p = threadIdx.x; p < cells * cells; p += THREADS) cos[p] = pairs.positive(p / cells, p % cells) ? (float)factor : 0.0f;
  if (threadIdx.x == 0) losses[image] = (float)(factor * sum);
}

// With e = exp(cosine / tau), P the positives of query cell i and n the query
// cells that have any:
// loss = scale / n sum_i -log(sum_P e / sum e);
// cosines = scale / (n tau) (e / sum e - [in P] e / sum_P e), 0 for a cell
// without positives
extern "C" __global__ void pixcontrast_loss(float* losses, float* cosines, const float* coord_q, const float* coord_k, int images, int rows, int cols, int shift, double threshold, double scale, double tau) {
  const int image = blockIdx.x, cells = rows * cols;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Pairs pairs;
  pairs.read(coord_q + 4 * image, coord_k + 4 * ((image + shift) % images), rows, cols, threshold);
  float* cos = cosines + (int64)image * cells * cells;
  double with = 0;
  for (int i = warp; i < cells; i += THREADS / 32) {
    float any = 0;
    for (int j = lane; j < cells; j += 32) any += pairs.positive(i, j) ? 1.0f : 0.0f;
    any = warp_sum(any);
    if (lane == 0 && any > 0) with++;
  }
  with = block_sum(with);
  double loss = 0;
  for (int i = warp; i < cells; i += THREADS / 32) {
    float* row = cos + (int64)i * cells;
    double inside = 0, all = 0;
    for (int j = lane; j < cells; j += 32) {
      const double e = exp(row[j] / tau);
      all += e;
      if (pairs.positive(i, j)) inside += e;
    }
    inside = warp_sum(inside);
    all = warp_sum(all);
    if (lane == 0 && inside > 0) loss -= log(inside / all);
    const double factor = scale / (tau * with);
    for (int j = lane; j < cells; j += 32) {
      const double e = exp(row[j] / tau);
      row[j] = inside > 0 ? (float)(factor * (e / all - (pairs.positive(i, j) ? e / inside : 0.0))) : 0.0f;
    }
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) losses[image] = with > 0 ? (float)(scale * loss / with) : 0.0f;
}

// ------------------------------------------------------------ instance losses

// One warp an image: loss = -2 scale q . k; dq = -2 scale k, k being that of
// image (image + shift) mod images
extern "C" __global__ void similarity_loss(float* losses, float* dq, const float* q, const float* k, int images, int channels, int shift, double scale) {
  const int image = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (image >= images) return;
  const float* key = k + (int64)((image + shift) % images) * channels;
  const float factor = (float)(-2 * scale);
  float sum = 0;
  for (int c = lane; c < channels; c += 32) {
    sum += q[(int64)image * channels + c] * key[c];
    dq[(int64)image * channels + c] = factor * key[c];
  }
  sum = warp_sum(sum);
  if (lane == 0) losses[image] = factor * sum;
}

// One block an image, whose cosines with the keys of the other view are a row:
// with p = softmax(cosine / tau), loss = -scale log p of its own key;
// cosines = scale / tau (p - [own key])
extern "C" __global__ void info_nce_loss(float* losses, float* cosines, int half, double scale, double tau) {
  const int image = blockIdx.x, own = image % half;
  float* row = cosines + (int64)image * half;
  double sum = 0;
  for (int j = threadIdx.x; j < half; j += THREADS) sum += exp(row[j] / tau);
  sum = block_sum(sum);
  if (threadIdx.x == 0) losses[image] = (float)(scale * (log(sum) - row[own] / tau));
  __syncthreads();
  for (int j = threadIdx.x; j < half; j += THREADS) row[j] = (float)(scale / tau * (exp(row[j] / tau) / sum - (j == own ? 1.0 : 0.0)));
}

// ----------------------------------------------------------- tables of tensors
//
// Small operations on many tensors are one launch over a table of them.

// An entry's blocks are those from first on, each of PART elements.
struct Entry {
  unsigned long long a, b, c;  // addresses
  int64 n;                     // elements
  double decay;
  int first, adapt;
};
#define PART (16 * THREADS)

// Part is what a block has of its entry.
struct Part {
  const Entry* entry;
  int64 begin, end;
  __device__ __forceinline__ Part(const Entry* table, int entries) {
    int low = 0, high = entries;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (table[middle].first <= (int)blockIdx.x) low = middle;
      else high = middle;
    }
    entry = table + low;
    begin = (int64)(blockIdx.x - entry->first) * PART;
    end = min(entry->n, begin + PART);
    begin += threadIdx.x;
  }
};

// a = 0
extern "C" __global__ void zero_table(const Entry* table, int entries) {
  const Part part(table, entries);
  float* a = (float*)part.entry->a;
  for (int64 i = part.begin; i < part.end; i += THREADS) a[i] = 0;
}

// a = keep a + take b
extern "C" __global__ void average_table(const Entry* table, int entries, float keep, float take) {
  const Part part(table, entries);
  float* __restrict__ a = (float*)part.entry->a;
  const float* __restrict__ b = (const float*)part.entry->b;
  for (int64 i = part.begin; i < part.end; i += THREADS) a[i] = keep * a[i] + take * b[i];
}

// partial[block] = sum p^2, sum (g + decay p)^2, of entries that adapt
extern "C" __global__ void lars_norms(double* partial, const Entry* table, int entries) {
  const Part part(table, entries);
  if (!part.entry->adapt) return;
  const float *p = (const float*)part.entry->a, *g = (const float*)part.entry->c;
  const double decay = part.entry->decay;
  double pp = 0, gg = 0;
  for (int64 i = part.begin; i < part.end; i += THREADS) {
    const double w = p[i], grad = g[i] + decay * w;
    pp += w * w;
    gg += grad * grad;
  }
  pp = block_sum(pp);
  gg = block_sum(gg);
  if (threadIdx.x == 0) {
    partial[2 * blockIdx.x] = pp;
    partial[2 * blockIdx.x + 1] = gg;
  }
}

// scales[entry] = trust |p| / (|g + decay p| + epsilon) of the sums in partial, 1 if
// the entry does not adapt or a length is 0; a block an entry
extern "C" __global__ void lars_scales(double* scales, const double* partial, const Entry* table, double trust, double epsilon) {
  const Entry e = table[blockIdx.x];
  double scale = 1;
  if (e.adapt) {
    double pp = 0, gg = 0;
    const int parts = (int)((e.n + PART - 1) / PART);
    for (int i = threadIdx.x; i < parts; i += THREADS) {
      pp += partial[2 * (e.first + i)];
      gg += partial[2 * (e.first + i) + 1];
    }
    pp = block_sum(pp);
    gg = block_sum(gg);
    if (pp > 0 && gg > 0) scale = trust * sqrt(pp) / (sqrt(gg) + epsilon);
  }
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

// b = momentum b + s (c + decay a); a = a - rate b: of parameter a, its buffer b,
// and gradient c, with its entry's scale s
extern "C" __global__ void update_table(const Entry* table, int entries, const double* scales, float momentum, float rate) {
  const Part part(table, entries);
  const double scale = scales[part.entry - table];
  float* __restrict__ p = (float*)part.entry->a;
  float* __restrict__ buffer = (float*)part.entry->b;
  const float* __restrict__ g = (const float*)part.entry->c;
  const float of_gradient = (float)scale, of_weight = (float)(scale * part.entry->decay);
  for (int64 i = part.begin; i < part.end; i += THREADS) {
    const float v = momentum * buffer[i] + of_gradient * g[i] + of_weight * p[i];
    buffer[i] = v;
    p[i] -= rate * v;
  }
}

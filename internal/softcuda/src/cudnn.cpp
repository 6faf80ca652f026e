// Stands in for libcudnn 9's backend interface: single convolutions of two spatial
// dimensions, by plain loops.
//
// Its heuristic lists nine engines: such as the device must pass over, which are not
// deterministic, of Winograd's, convert factors to what they do not say, cannot be
// made ready, fail when they run, or take much workspace; one that rounds float32
// factors to TF32; and two that take some workspace and none. Descriptors are checked as cuDNN checks them: types and numbers of values,
// what is required, shapes that agree, alignment, and what is not finished or gone.
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "soft.h"
// after CUstream
#include "cudnn.h"

namespace {

struct Handle {
  CUcontext context;
  CUstream stream;
};
std::set<Handle*> handles;

struct Value {
  int type;
  int64_t count;
  std::vector<char> bytes;
};

struct Descriptor {
  int kind;
  bool finished = false;
  std::map<int, Value> values;
  int engine = 0;  // of a configuration, an engine or a plan
  // What it is made of, as it was then: descriptors may go before those that have them.
  std::map<int, std::shared_ptr<Descriptor>> parts;
};
std::map<void*, std::shared_ptr<Descriptor>> alive;

size_t width(int type) {
  switch (type) {
    case T_HANDLE: case T_INT64: case T_POINTER: case T_DESCRIPTOR: return 8;
    case T_DATA: case T_FLOAT: case T_MODE: case T_HEURISTIC: case T_NOTE: return 4;
  }
  return 0;
}

struct Attribute { int kind, name, type, count; };  // count 0: any
const Attribute attributes[] = {
    {CONVOLUTION, 100, T_DATA, 1}, {CONVOLUTION, 101, T_MODE, 1}, {CONVOLUTION, 102, T_INT64, 2}, {CONVOLUTION, 103, T_INT64, 2},
    {CONVOLUTION, 104, T_INT64, 2}, {CONVOLUTION, 105, T_INT64, 2}, {CONVOLUTION, 106, T_INT64, 1},
    {HEURISTIC, 200, T_HEURISTIC, 1}, {HEURISTIC, 201, T_DESCRIPTOR, 1}, {PLAN, 400, T_HANDLE, 1}, {PLAN, 401, T_DESCRIPTOR, 1},
    {FORWARD, 700, T_FLOAT, 1}, {FORWARD, 701, T_FLOAT, 1}, {FORWARD, 702, T_DESCRIPTOR, 1}, {FORWARD, 703, T_DESCRIPTOR, 1}, {FORWARD, 704, T_DESCRIPTOR, 1}, {FORWARD, 705, T_DESCRIPTOR, 1},
    {DATA, 706, T_FLOAT, 1}, {DATA, 707, T_FLOAT, 1}, {DATA, 708, T_DESCRIPTOR, 1}, {DATA, 709, T_DESCRIPTOR, 1}, {DATA, 710, T_DESCRIPTOR, 1}, {DATA, 711, T_DESCRIPTOR, 1},
    {WEIGHTS, 712, T_FLOAT, 1}, {WEIGHTS, 713, T_FLOAT, 1}, {WEIGHTS, 714, T_DESCRIPTOR, 1}, {WEIGHTS, 715, T_DESCRIPTOR, 1}, {WEIGHTS, 716, T_DESCRIPTOR, 1}, {WEIGHTS, 717, T_DESCRIPTOR, 1},
    {GRAPH, 800, T_HANDLE, 1}, {GRAPH, 801, T_DESCRIPTOR, 1},
    {TENSOR, 900, T_INT64, 1}, {TENSOR, 901, T_DATA, 1}, {TENSOR, 902, T_INT64, 4}, {TENSOR, 903, T_INT64, 4}, {TENSOR, 906, T_INT64, 1},
    {PACK, 1000, T_INT64, 0}, {PACK, 1001, T_POINTER, 0}, {PACK, 1003, T_POINTER, 1},
};

struct Notes { std::vector<int32_t> notes; int64_t workspace; };
const Notes engines[] = {
    {{NOTE_NONDETERMINISTIC}, 0}, {{NOTE_WINOGRAD}, 0}, {{NOTE_DOWN_CONVERT}, 0}, {{}, 0}, {{}, 0}, {{NOTE_TENSOR_CORE}, 0}, {{}, int64_t(1) << 40}, {{}, 4096}, {{}, 0},
};
const int kEngines = sizeof engines / sizeof *engines, kConverting = 2, kUnready = 3, kFailing = 4, kRounding = 5;

template <class T> T value(const Descriptor& d, int name, int i = 0) {
  T v;
  memcpy(&v, d.values.at(name).bytes.data() + i * sizeof(T), sizeof(T));
  return v;
}

std::shared_ptr<Descriptor> find(void* p) {
  auto at = alive.find(p);
  return at == alive.end() ? nullptr : at->second;
}

// A tensor's shape in N, H, W, C, whose channels must come last.
struct Shape {
  int64_t n, h, w, c;
  int type;
  bool good;
  explicit Shape(const Descriptor& d) {
    n = value<int64_t>(d, 902, 0), c = value<int64_t>(d, 902, 1), h = value<int64_t>(d, 902, 2), w = value<int64_t>(d, 902, 3);
    type = value<int32_t>(d, 901);
    good = value<int64_t>(d, 903, 0) == h * w * c && value<int64_t>(d, 903, 1) == 1 && value<int64_t>(d, 903, 2) == w * c && value<int64_t>(d, 903, 3) == c;
  }
  int64_t at(int64_t i, int64_t y, int64_t x, int64_t k) const { return ((i * h + y) * w + x) * c + k; }
  uint64_t bytes() const { return n * h * w * c * (type == D_BF16 ? 2 : 4); }
};

struct Window { int64_t dilation[2], stride[2], before[2], after[2]; };

float rounded(float x, int lower) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if ((u & 0x7f800000) == 0x7f800000) return x;
  u += (1u << (lower - 1)) - 1 + (u >> lower & 1);
  u &= ~((1u << lower) - 1);
  memcpy(&x, &u, 4);
  return x;
}
float load(uint64_t p, int64_t i, const Shape& s) {
  if (s.type == D_FLOAT) return ((const float*)p)[i];
  uint32_t u = (uint32_t)((const uint16_t*)p)[i] << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
void store(uint64_t p, int64_t i, const Shape& s, float v) {
  if (s.type == D_FLOAT) {
    ((float*)p)[i] = v;
    return;
  }
  v = rounded(v, 16);
  uint32_t u;
  memcpy(&u, &v, 4);
  ((uint16_t*)p)[i] = u >> 16;
}

int first(int kind) { return kind == FORWARD ? 700 : kind == DATA ? 706 : 712; }

// operands are x, w and y of an operation.
void operands(const Descriptor& op, std::shared_ptr<Descriptor> of[3]) {
  int at = first(op.kind);  // which scales, the convolution, and w, x and y follow
  of[0] = op.parts.at(at + 4), of[1] = op.parts.at(at + 3), of[2] = op.parts.at(at + 5);
}

Window window(const Descriptor& convolution) {
  Window g;
  for (int i = 0; i < 2; i++) {
    g.dilation[i] = value<int64_t>(convolution, 102, i), g.stride[i] = value<int64_t>(convolution, 103, i);
    g.after[i] = value<int64_t>(convolution, 104, i), g.before[i] = value<int64_t>(convolution, 105, i);
  }
  return g;
}

// checked says what cuDNN would of a descriptor that is to be finished.
cudnnStatus_t checked(Descriptor& d) {
  for (auto& a : attributes)
    if (a.kind == d.kind && !d.values.count(a.name)) return CUDNN_STATUS_BAD_PARAM;
  for (auto& part : d.parts)
    if (!part.second->finished && part.second->kind != CONFIGURATION) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
  switch (d.kind) {
    case TENSOR:
      for (int i = 0; i < 4; i++)
        if (value<int64_t>(d, 902, i) < 1) return CUDNN_STATUS_BAD_PARAM;
      if (value<int64_t>(d, 900) % 16) return CUDNN_STATUS_BAD_PARAM;
      return CUDNN_STATUS_SUCCESS;
    case CONVOLUTION:
      if (value<int64_t>(d, 106) != 2 || value<int32_t>(d, 100) != D_FLOAT || value<int32_t>(d, 101) != CROSS_CORRELATION) return CUDNN_STATUS_BAD_PARAM;
      return CUDNN_STATUS_SUCCESS;
    case FORWARD: case DATA: case WEIGHTS: {
      std::shared_ptr<Descriptor> of[3];
      operands(d, of);
      if (!d.parts.at(first(d.kind) + 2) || d.parts.at(first(d.kind) + 2)->kind != CONVOLUTION) return CUDNN_STATUS_BAD_PARAM;
      for (auto& t : of)
        if (t->kind != TENSOR) return CUDNN_STATUS_BAD_PARAM;
      Shape x(*of[0]), w(*of[1]), y(*of[2]);
      Window g = window(*d.parts.at(first(d.kind) + 2));
      auto out = [&](int64_t side, int64_t kernel, int i) { return (side + g.before[i] + g.after[i] - g.dilation[i] * (kernel - 1) - 1) / g.stride[i] + 1; };
      if (x.n != y.n || x.c % w.c || y.c != w.n || w.n % (x.c / w.c) || y.h != out(x.h, w.h, 0) || y.w != out(x.w, w.w, 1)) return CUDNN_STATUS_BAD_PARAM;
      return CUDNN_STATUS_SUCCESS;
    }
    case GRAPH: {
      auto op = d.parts.at(801);
      if (op->kind != FORWARD && op->kind != DATA && op->kind != WEIGHTS) return CUDNN_STATUS_BAD_PARAM;
      std::shared_ptr<Descriptor> of[3];
      operands(*op, of);
      for (auto& t : of)
        if (!Shape(*t).good) return CUDNN_STATUS_NOT_SUPPORTED;  // an order of dimensions that no engine here has
      if (!handles.count((Handle*)value<void*>(d, 800))) return CUDNN_STATUS_BAD_PARAM;
      return CUDNN_STATUS_SUCCESS;
    }
    case HEURISTIC: return value<int32_t>(d, 200) == MODE_A ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
    case PLAN: {
      if (!handles.count((Handle*)value<void*>(d, 400))) return CUDNN_STATUS_BAD_PARAM;
      auto c = d.parts.at(401);
      if (c->kind != CONFIGURATION || !c->parts.count(0)) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
      d.engine = c->engine;
      if (d.engine == kUnready) return CUDNN_STATUS_INTERNAL_ERROR;
      d.parts[0] = c->parts.at(0);
      return CUDNN_STATUS_SUCCESS;
    }
    case PACK: return d.values[1000].count == d.values[1001].count ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
  }
  return CUDNN_STATUS_NOT_SUPPORTED;
}

void compute(int kind, const Shape& xs, const Shape& ws, const Shape& ys, const Window& g, bool round, uint64_t x, uint64_t w, uint64_t y) {
  auto factors = [round](uint64_t p, const Shape& s, bool used) {
    std::vector<float> v(used ? s.n * s.h * s.w * s.c : 0);
    for (size_t i = 0; i < v.size(); i++) v[i] = round ? rounded(load(p, i, s), 13) : load(p, i, s);
    return v;
  };
  std::vector<float> xf = factors(x, xs, kind != DATA), wf = factors(w, ws, kind != WEIGHTS), yf = factors(y, ys, kind != FORWARD);
  const Shape& s = kind == FORWARD ? ys : kind == DATA ? xs : ws;
  std::vector<double> sums(s.n * s.h * s.w * s.c, 0.0);
  const int64_t outs = ws.n / (xs.c / ws.c), depth = ws.c;  // of a group
  for (int64_t n = 0; n < ys.n; n++)
    for (int64_t oy = 0; oy < ys.h; oy++)
      for (int64_t ox = 0; ox < ys.w; ox++)
        for (int64_t kh = 0; kh < ws.h; kh++) {
          int64_t iy = oy * g.stride[0] - g.before[0] + kh * g.dilation[0];
          if (iy < 0 || iy >= xs.h) continue;
          for (int64_t kw = 0; kw < ws.w; kw++) {
            int64_t ix = ox * g.stride[1] - g.before[1] + kw * g.dilation[1];
            if (ix < 0 || ix >= xs.w) continue;
            for (int64_t o = 0; o < ws.n; o++) {
              const int64_t xi = xs.at(n, iy, ix, o / outs * depth), wi = ws.at(o, kh, kw, 0), yi = ys.at(n, oy, ox, o);
              if (kind == FORWARD)
                for (int64_t c = 0; c < depth; c++) sums[yi] += (double)xf[xi + c] * wf[wi + c];
              else if (kind == DATA)
                for (int64_t c = 0; c < depth; c++) sums[xi + c] += (double)yf[yi] * wf[wi + c];
              else
                for (int64_t c = 0; c < depth; c++) sums[wi + c] += (double)xf[xi + c] * yf[yi];
            }
          }
        }
  uint64_t to = kind == FORWARD ? y : kind == DATA ? x : w;
  for (size_t i = 0; i < sums.size(); i++) store(to, i, s, (float)sums[i]);
}

}  // namespace

EXPORT size_t cudnnGetVersion() { return 91000; }
EXPORT cudnnStatus_t cudnnCreate(cudnnHandle_t* out) {
  ENTER(CUDNN_STATUS_HOST_ALLOCATION_FAILED);
  if (!soft::current()) return CUDNN_STATUS_NOT_INITIALIZED;
  auto h = new Handle{soft::current(), nullptr};
  handles.insert(h);
  soft::handles++;
  *out = (cudnnHandle_t)h;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  auto h = (Handle*)handle;
  if (!handles.erase(h)) return CUDNN_STATUS_NOT_INITIALIZED;
  soft::handles--;
  delete h;
  return fails ? CUDNN_STATUS_INTERNAL_ERROR : CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t s) {
  ENTER(CUDNN_STATUS_INTERNAL_ERROR);
  if (!handles.count((Handle*)handle)) return CUDNN_STATUS_NOT_INITIALIZED;
  ((Handle*)handle)->stream = (CUstream)s;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendCreateDescriptor(int kind, cudnnBackendDescriptor_t* out) {
  ENTER(CUDNN_STATUS_HOST_ALLOCATION_FAILED);
  auto d = std::make_shared<Descriptor>();
  d->kind = kind;
  *out = new char;
  alive[*out] = d;
  soft::handles++;
  return CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p) {
  soft::Lock lock;
  bool fails = soft::counted(__func__);
  if (!alive.erase(p)) return CUDNN_STATUS_BAD_PARAM;
  soft::handles--;
  delete (char*)p;
  return fails ? CUDNN_STATUS_INTERNAL_ERROR : CUDNN_STATUS_SUCCESS;
}
EXPORT cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, int name, int type, int64_t count, const void* values) {
  ENTER(CUDNN_STATUS_INTERNAL_ERROR);
  auto d = find(p);
  if (!d || d->finished || !values) return CUDNN_STATUS_BAD_PARAM;
  for (auto& a : attributes)
    if (a.kind == d->kind && a.name == name) {
      if (a.type != type || count < 1 || (a.count && a.count != count)) return CUDNN_STATUS_BAD_PARAM;
      auto from = (const char*)values;
      d->values[name] = {type, count, std::vector<char>(from, from + count * width(type))};
      if (type == T_DESCRIPTOR) {
        auto part = find(*(void**)values);
        if (!part) return CUDNN_STATUS_BAD_PARAM;
        d->parts[name] = part;
      }
      return CUDNN_STATUS_SUCCESS;
    }
  return CUDNN_STATUS_NOT_SUPPORTED;
}
EXPORT cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p) {
  ENTER(CUDNN_STATUS_INTERNAL_ERROR);
  auto d = find(p);
  if (!d || d->finished) return CUDNN_STATUS_BAD_PARAM;
  auto status = checked(*d);
  d->finished = status == CUDNN_STATUS_SUCCESS;
  return status;
}
EXPORT cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t p, int name, int type, int64_t requested, int64_t* count, void* values) {
  ENTER(CUDNN_STATUS_INTERNAL_ERROR);
  auto d = find(p);
  if (!d || !count) return CUDNN_STATUS_BAD_PARAM;
  if (d->kind == HEURISTIC && name == 202 && type == T_DESCRIPTOR && d->finished) {
    *count = kEngines;
    for (int i = 0; i < kEngines && i < requested; i++) {
      auto c = find(((void**)values)[i]);
      if (!c || c->kind != CONFIGURATION) return CUDNN_STATUS_BAD_PARAM;
      c->engine = i, c->finished = true, c->parts[0] = d->parts.at(201);
      *count = i + 1;
    }
    return CUDNN_STATUS_SUCCESS;
  }
  if (d->kind == CONFIGURATION && name == 300 && type == T_DESCRIPTOR && d->finished && requested == 1) {
    auto e = find(*(void**)values);
    if (!e || e->kind != ENGINE) return CUDNN_STATUS_BAD_PARAM;
    e->engine = d->engine, e->finished = true;
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
  }
  if (d->kind == ENGINE && name == 1303 && type == T_NOTE && d->finished) {
    auto& notes = engines[d->engine].notes;
    *count = notes.size();
    memcpy(values, notes.data(), 4 * std::min<int64_t>(requested, notes.size()));
    return CUDNN_STATUS_SUCCESS;
  }
  if (d->kind == ENGINE && name == 1301 && type == T_INT64 && d->finished && requested == 1) {
    *(int64_t*)values = d->engine;
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
  }
  if (d->kind == PLAN && name == 402 && type == T_INT64 && d->finished && requested == 1) {
    *(int64_t*)values = engines[d->engine].workspace;
    *count = 1;
    return CUDNN_STATUS_SUCCESS;
  }
  return CUDNN_STATUS_BAD_PARAM;
}
EXPORT cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t planAt, cudnnBackendDescriptor_t packAt) {
  ENTER(CUDNN_STATUS_EXECUTION_FAILED);
  auto h = (Handle*)handle;
  if (!handles.count(h) || h->context != soft::current()) return CUDNN_STATUS_NOT_INITIALIZED;
  auto plan = find(planAt), pack = find(packAt);
  if (!plan || !pack || plan->kind != PLAN || pack->kind != PACK || !plan->finished || !pack->finished) return CUDNN_STATUS_BAD_PARAM;
  for (int32_t note : engines[plan->engine].notes)
    if (note == NOTE_NONDETERMINISTIC || note == NOTE_WINOGRAD) {
      fprintf(stderr, "softcuda: cudnnBackendExecute of an engine that is not exact or not deterministic\n");
      return CUDNN_STATUS_EXECUTION_FAILED;
    }
  if (plan->engine == kFailing) return CUDNN_STATUS_INTERNAL_ERROR;
  auto op = plan->parts.at(0)->parts.at(801);
  std::shared_ptr<Descriptor> of[3];
  operands(*op, of);
  Shape shapes[3] = {Shape(*of[0]), Shape(*of[1]), Shape(*of[2])};
  uint64_t at[3] = {0, 0, 0};
  for (int i = 0; i < 3; i++) {
    for (int k = 0; k < pack->values[1000].count; k++)
      if (value<int64_t>(*pack, 1000, k) == value<int64_t>(*of[i], 906)) at[i] = value<uint64_t>(*pack, 1001, k);
    if (plan->engine == kConverting && shapes[i].type == D_FLOAT && !(op->kind == WEIGHTS && i == 1)) {
      fprintf(stderr, "softcuda: cudnnBackendExecute of an engine that converts float32\n");
      return CUDNN_STATUS_EXECUTION_FAILED;
    }
    if (!at[i] || at[i] % value<int64_t>(*of[i], 900)) return CUDNN_STATUS_BAD_PARAM;
    if (!soft::inDevice(at[i], shapes[i].bytes())) {
      fprintf(stderr, "softcuda: cudnnBackendExecute reaches outside of an allocation\n");
      return CUDNN_STATUS_BAD_PARAM;
    }
  }
  uint64_t workspace = value<uint64_t>(*pack, 1003), needed = engines[plan->engine].workspace;
  if (needed && !soft::inDevice(workspace, needed)) return CUDNN_STATUS_BAD_PARAM;
  float alpha = value<float>(*op, first(op->kind)), beta = value<float>(*op, first(op->kind) + 1);
  if (alpha != 1 || beta != 0) return CUDNN_STATUS_NOT_SUPPORTED;
  Window g = window(*op->parts.at(first(op->kind) + 2));
  bool round = plan->engine == kRounding && shapes[0].type == D_FLOAT;
  int kind = op->kind;
  Shape x = shapes[0], w = shapes[1], y = shapes[2];
  CUresult r = soft::enqueue(h->stream, [=] {
    if (needed) memset((void*)workspace, 0xCD, needed);
    compute(kind, x, w, y, g, round, at[0], at[1], at[2]);
    return CUDA_SUCCESS;
  });
  return r ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}

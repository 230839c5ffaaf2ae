// Blocks of 3x3 convolution (padding 1), batch norm by channel and ReLU, one after the other, in one kernel with first and
// second derivatives, on one thread. One task follows another through all blocks, so that its maps stay in the cache.
//
// Inside, maps are (places, examples, channels). The first block multiplies the patches of images, which have few channels; see
// products.h for the others. With u = (y - mean y) r, r = 1 / sqrt(var y + eps), a block's output is relu(scale u + offset).
// What is kept for the derivatives, a task's "state", is the u of all blocks, then all means, then all r; ReLU's outputs are
// computed again. The backward pass is a function of the state, too, so that its own derivative ends there and the rest is one
// more backward pass. D is the gradient of the outputs where they are positive, and 0 elsewhere.

#include <cmath>
#include <vector>

#include "products.h"

namespace {

struct Stack {
  long tasks, n, depth, height, width, size = 0, channels = 0;  // size, channels: numbers of a task in all maps, in all norms
  std::vector<Layer> layers;
  std::vector<long> at, channel;  // offsets of a layer among these
  long first_stride;
  Layer last;  // its output alone

  explicit Stack(const long* s) : tasks(s[0]), n(s[1]), depth(s[2]), height(s[3]), width(s[4]) {
    long h = height, w = width, in = depth;
    for (long l = 0; l < s[5]; ++l) {
      const long out = s[6 + 2 * l], stride = s[7 + 2 * l], oh = (h - 1) / stride + 1, ow = (w - 1) / stride + 1;
      if (l) layers.push_back({n, h, w, oh, ow, stride, 9, in, out});
      else layers.push_back({n * oh * ow, 1, 1, 1, 1, 1, 1, 9 * in, out});
      at.push_back(size), channel.push_back(channels);
      size += layers[l].size(), channels += out;
      h = oh, w = ow, in = out;
    }
    first_stride = s[7];
    last = {n, 0, 0, h, w, 1, 1, 0, in};
  }
  long count() const { return (long)layers.size(); }
  long images() const { return n * depth * height * width; }
  long state() const { return size + 2 * channels; }
  long mean(long l) const { return size + channel[l]; }
  long root(long l) const { return size + channels + channel[l]; }
};

// A parameter of each of "stacks" groups of tasks: (stacks, size).
template <class T> struct Parameter {
  T* data;
  long stacks, tasks, size;
  T* of(long t) const { return data + t * stacks / tasks * size; }
  bool starts(long t) const { return !t || (t - 1) * stacks / tasks != t * stacks / tasks; }
  bool ends(long t) const { return t + 1 == tasks || (t + 1) * stacks / tasks != t * stacks / tasks; }
};

template <class T> struct Block { Parameter<T> kernel, scale, offset; };

template <class T> std::vector<Block<T>> blocks(const Stack& s, T* const* data, const long* stacks) {
  std::vector<Block<T>> result;
  for (long l = 0; l < s.count(); ++l, data += 3, stacks += 3) {
    const Layer& layer = s.layers[l];
    result.push_back({{data[0], stacks[0], s.tasks, layer.kernel()}, {data[1], stacks[1], s.tasks, layer.out},
                      {data[2], stacks[2], s.tasks, layer.out}});
  }
  return result;
}

enum Room { PATCHES, OUTPUTS, WEIGHTS, TRANSPOSED, SUMS, ALONG, ALONG_TRANSPOSED, GRADIENT, OTHER, BACK, ROOMS };

// Memory that is kept from call to call: fresh pages would cost as much time as the arithmetic.
template <class T> T* room(Room name, long layer, long size) {
  static thread_local std::vector<std::vector<T>> rooms;
  const size_t number = layer * ROOMS + name, line = 64 / sizeof(T);
  if (rooms.size() <= number) rooms.resize(number + 1);
  if (rooms[number].size() < size + line) rooms[number].resize(size + line);
  return (T*)(((size_t)rooms[number].data() + 63) / 64 * 64);
}

template <class Visit> void each_row(const Layer& l, int lanes, Visit visit) {
  for (long row = 0; row < l.rows(); ++row)
    for (long c = 0; c < l.out; c += lanes) visit(row * l.out + c, c);
}

// The rows (places, examples) of 3x3 patches (places of the kernel, channels) of images (examples, channels, height, width).
template <class T> void patches(const Stack& s, const T* images, T* rows) {
  const long stride = s.first_stride;
  for (long i = 0; i < s.height; i += stride)
    for (long j = 0; j < s.width; j += stride)
      for (long e = 0; e < s.n; ++e)
        for (long y = i - 1; y < i + 2; ++y)
          for (long x = j - 1; x < j + 2; ++x)
            for (long c = 0; c < s.depth; ++c, ++rows)
              *rows = y < 0 || x < 0 || y >= s.height || x >= s.width
                          ? 0 : images[((e * s.depth + c) * s.height + y) * s.width + x];
}

// The last map (places, examples, channels) from or to (examples, channels, places).
template <class T> void channels_first(const Layer& l, const T* map, T* to) {
  const long places = l.rows() / l.n;
  for (long p = 0; p < places; ++p)
    for (long e = 0; e < l.n; ++e)
      for (long c = 0; c < l.out; ++c) to[(e * l.out + c) * places + p] = map[(p * l.n + e) * l.out + c];
}
template <class T> void channels_last(const Layer& l, const T* from, T* map) {
  const long places = l.rows() / l.n;
  for (long p = 0; p < places; ++p)
    for (long e = 0; e < l.n; ++e)
      for (long c = 0; c < l.out; ++c) map[(p * l.n + e) * l.out + c] = from[(e * l.out + c) * places + p];
}

template <class T> inline Vec<T> positive(Vec<T> z) { return z < 0 ? Vec<T>{} : z; }  // nan stays

template <class T> T* activated(const Layer& l, long number, const T* normed, const T* scale, const T* offset) {
  T* to = room<T>(OUTPUTS, number, l.size());
  each_row(l, LANES<T>, [=](long at, long c) {
    store(to + at, positive<T>(load(normed + at) * load(scale + c) + load(offset + c)));
  });
  return to;
}

// Replaces y by (y - mean) r.
template <class T> void normalize(const Layer& l, double eps, T* y, T* mean, T* r) {
  static thread_local double sum[2][MOST];
  clear(sum, 2, l.out);
  add_sums<2, T>(l.rows(), l.out, sum, [=](long row, long c, Vec<T>* term) {
    const Vec<T> d = load(y + row * l.out + c) - load(y + c);  // less the first row: no cancellation in the variance
    term[0] = d;
    term[1] = d * d;
  });
  for (long c = 0; c < l.out; ++c) {
    const double off = sum[0][c] / l.rows(), var = sum[1][c] / l.rows() - off * off;
    mean[c] = (T)((double)y[c] + off);
    r[c] = (T)(1 / std::sqrt((var > 0 || var != var ? var : 0) + eps));
  }
  each_row(l, LANES<T>, [=](long at, long c) { store(y + at, (load(y + at) - load(mean + c)) * load(r + c)); });
}

template <class T>
void forward(const Stack& s, double eps, const T* images, const std::vector<Block<T>>& params, T* out, T* state) {
  for (long t = 0; t < s.tasks; ++t, images += s.images(), state += s.state()) {
    T* x = room<T>(PATCHES, 0, s.layers[0].rows() * s.layers[0].in);
    patches(s, images, x);
    for (long l = 0; l < s.count(); ++l) {
      const Layer& layer = s.layers[l];
      const Block<T>& p = params[l];
      T *w = room<T>(WEIGHTS, l, layer.kernel()), *y = state + s.at[l];
      if (p.kernel.starts(t)) pack(layer, p.kernel.of(t), w);
      convolve<T>(layer, x, w, nullptr, nullptr, y);
      normalize(layer, eps, y, state + s.mean(l), state + s.root(l));
      x = activated(layer, l, y, p.scale.of(t), p.offset.of(t));
    }
    channels_first(s.last, x, out + t * s.last.size());
  }
}

// The inputs of all layers and the last output, computed from the normed maps.
template <class T>
std::vector<T*> inputs(const Stack& s, const T* images, const std::vector<Block<T>>& params, long t, const T* state) {
  std::vector<T*> x = {room<T>(PATCHES, 0, s.layers[0].rows() * s.layers[0].in)};
  patches(s, images, x[0]);
  for (long l = 0; l < s.count(); ++l)
    x.push_back(activated(s.layers[l], l, state + s.at[l], params[l].scale.of(t), params[l].offset.of(t)));
  return x;
}

template <class T> void keep_positive(const Layer& l, const T* outputs, T* g) {
  each_row(l, LANES<T>, [=](long at, long) { store(g + at, load(outputs + at) > 0 ? load(g + at) : Vec<T>{}); });
}

// Adds a task's gradient of a kernel, (places, in, out) in "sum", to its stack's and stores a complete one as (out, in,
// places).
template <class T, class Add> void add_kernel(const Layer& l, long number, const Parameter<T>& to, long t, Add add) {
  T* sum = room<T>(SUMS, number, l.kernel());
  if (to.starts(t))
    for (long k = 0; k < l.kernel(); ++k) sum[k] = 0;
  add(sum);
  if (to.ends(t)) unpack(l, sum, to.of(t));
}

template <class T> void add_channel(const Parameter<T>& to, long t, long c, double value) {
  T* at = to.of(t) + c;
  *at = to.starts(t) ? (T)value : (T)(*at + value);
}

// The gradients "to" of the parameters, given g, that of the outputs, and "more", that of the state, if there is one.
template <class T>
void backward(const Stack& s, const T* images, const std::vector<Block<T>>& params, const T* state, const T* g, const T* more,
              T* kept, const std::vector<Block<T>>& to) {
  static thread_local double sum[4][MOST];
  static thread_local T k1[MOST], k2[MOST], k3[MOST];
  for (long t = 0; t < s.tasks; ++t, images += s.images(), state += s.state(), kept += s.size, more += more ? s.state() : 0) {
    const std::vector<T*> x = inputs(s, images, params, t, state);
    channels_last(s.last, g + t * s.last.size(), kept + s.at.back());
    for (long l = s.count() - 1; l >= 0; --l) {
      const Layer& layer = s.layers[l];
      const long C = layer.out;
      T *d = kept + s.at[l], *gy = room<T>(GRADIENT, 0, layer.size());
      const T *u = state + s.at[l], *scale = params[l].scale.of(t), *r = state + s.root(l);
      const T* du = more ? more + s.at[l] : nullptr;
      keep_positive(layer, x[l + 1], d);
      clear(sum, 4, C);
      add_sums<2, T>(layer.rows(), C, sum, [=](long row, long c, Vec<T>* term) {
        term[0] = load(d + row * C + c);
        term[1] = term[0] * load(u + row * C + c);
      });
      if (more)
        add_sums<2, T>(layer.rows(), C, sum + 2, [=](long row, long c, Vec<T>* term) {
          term[0] = load(du + row * C + c);
          term[1] = term[0] * load(u + row * C + c);
        });
      for (long c = 0; c < C; ++c) {
        const double a = scale[c], root = r[c], dr = more ? more[s.root(l) + c] : 0;
        add_channel(to[l].offset, t, c, sum[0][c]);
        add_channel(to[l].scale, t, c, sum[1][c]);
        k1[c] = (T)(a * root);
        k2[c] = (T)(-root * (a * sum[1][c] + sum[3][c] + root * dr) / layer.rows());
        k3[c] = (T)(-root * (a * sum[0][c] + sum[2][c]) / layer.rows());
      }
      each_row(layer, LANES<T>, [=](long at, long c) {
        const Vec<T> own = load(k1 + c) * load(d + at) + load(k2 + c) * load(u + at) + load(k3 + c);
        store(gy + at, du ? own + load(r + c) * load(du + at) : own);
      });
      add_kernel(layer, l, to[l].kernel, t, [&](T* total) { correlate(layer, x[l], gy, total); });
      if (!l) continue;  // images have no gradient
      T* w = room<T>(TRANSPOSED, l, layer.kernel());
      if (params[l].kernel.starts(t)) pack_transposed(layer, params[l].kernel.of(t), w);
      convolve_back(layer, gy, w, kept + s.at[l - 1]);
    }
  }
}

// Adds to the derivatives of a block's u, scale and offset what follows from that of its outputs, "to_outputs".
template <class T>
void into_block(const Stack& s, long l, long t, const T* outputs, T* to_outputs, const Block<T>& params, const T* state,
                T* to_state, const Block<T>& to) {
  static thread_local double sum[2][MOST];
  const Layer& layer = s.layers[l];
  const long C = layer.out;
  const T *u = state + s.at[l], *a = params.scale.of(t);
  T* to_u = to_state + s.at[l];
  keep_positive(layer, outputs, to_outputs);
  clear(sum, 2, C);
  add_sums<2, T>(layer.rows(), C, sum, [=](long row, long c, Vec<T>* term) {
    term[0] = load(to_outputs + row * C + c);
    term[1] = term[0] * load(u + row * C + c);
  });
  for (long c = 0; c < C; ++c) to.offset.of(t)[c] += (T)sum[0][c], to.scale.of(t)[c] += (T)sum[1][c];
  each_row(layer, LANES<T>, [=](long at, long c) { store(to_u + at, load(to_u + at) + load(a + c) * load(to_outputs + at)); });
}

// The derivatives of sum(along * gradients), gradients as of "backward" without "more", with respect to the outputs' gradient,
// the state and the parameters. Per block, gy = scale r (D - mean D - u q) with q = mean(D u).
template <class T>
void second(const Stack& s, const T* images, const std::vector<Block<T>>& params, const std::vector<Block<T>>& along,
            const T* state, const T* kept, T* to_g, T* to_state, const std::vector<Block<T>>& to) {
  static thread_local double sum[5][MOST];
  static thread_local T mean[MOST], q[MOST], k[MOST], s0[MOST], s1[MOST];
  for (long t = 0; t < s.tasks; ++t, images += s.images(), state += s.state(), kept += s.size, to_state += s.state()) {
    const std::vector<T*> x = inputs(s, images, params, t, state);
    T* back = nullptr;  // the derivative with respect to the gradient of this layer's input
    for (long l = 0; l < s.count(); ++l) {
      const Layer& layer = s.layers[l];
      const long C = layer.out;
      const T *d = kept + s.at[l], *u = state + s.at[l], *r = state + s.root(l), *a = params[l].scale.of(t);
      T *gy = room<T>(GRADIENT, 0, layer.size()), *z = room<T>(BACK, l, layer.size()), *to_u = to_state + s.at[l];
      T *w = room<T>(WEIGHTS, l, layer.kernel()), *v = room<T>(ALONG, l, layer.kernel());
      if (l && params[l].kernel.starts(t)) pack(layer, params[l].kernel.of(t), w);
      if (along[l].kernel.starts(t)) pack(layer, along[l].kernel.of(t), v);
      convolve<T>(layer, x[l], v, back, w, z);  // with respect to gy
      clear(sum, 5, C);
      add_sums<5, T>(layer.rows(), C, sum, [=](long row, long c, Vec<T>* term) {
        const Vec<T> g = load(d + row * C + c), here = load(u + row * C + c), dz = load(z + row * C + c);
        term[0] = g, term[1] = g * here, term[2] = dz, term[3] = dz * here, term[4] = dz * g;
      });
      const T *va = along[l].scale.of(t), *vb = along[l].offset.of(t);
      for (long c = 0; c < C; ++c) {
        const double N = (double)layer.rows(), root = r[c], m = sum[0][c] / N, p = sum[1][c] / N;
        const double inner = sum[4][c] - m * sum[2][c] - p * sum[3][c];  // sum(z (D - m - u q))
        mean[c] = (T)m, q[c] = (T)p, k[c] = (T)(a[c] * root);
        s0[c] = (T)(vb[c] - (double)k[c] * sum[2][c] / N), s1[c] = (T)(va[c] - (double)k[c] * sum[3][c] / N);
        add_channel(to[l].scale, t, c, root * inner);
        add_channel(to[l].offset, t, c, 0);
        to_state[s.mean(l) + c] = 0, to_state[s.root(l) + c] = (T)(a[c] * inner);
      }
      const T* outputs = x[l + 1];
      each_row(layer, LANES<T>, [=](long at, long c) {
        const Vec<T> here = load(u + at), g = load(d + at), part = load(k + c) * load(z + at);
        store(gy + at, load(k + c) * (g - load(mean + c) - here * load(q + c)));
        store(to_u + at, g * load(s1 + c) - part * load(q + c));
        store(z + at, load(outputs + at) > 0 ? part + load(s0 + c) + here * load(s1 + c) : Vec<T>{});
      });
      if (l) {
        T *v_back = room<T>(ALONG_TRANSPOSED, l, layer.kernel()), *to_x = room<T>(OTHER, 0, s.layers[l - 1].size());
        if (along[l].kernel.starts(t)) pack_transposed(layer, along[l].kernel.of(t), v_back);
        convolve_back(layer, gy, v_back, to_x);
        into_block(s, l - 1, t, x[l], to_x, params[l - 1], state, to_state, to[l - 1]);
      }
      add_kernel(layer, l, to[l].kernel, t, [&](T* total) {
        if (l) correlate(layer, back, gy, total);
      });
      back = z;
    }
    channels_first(s.last, back, to_g + t * s.last.size());
  }
}

}  // namespace

// sizes: tasks, examples, channels, height, width, layers, and filters and stride of each layer. Parameters of a layer are its
// kernel (out, in, 3, 3), scale (out) and offset (out), each with a leading axis of stacks: the number of groups of consecutive
// tasks that share it; results have stacks of their own. images, outputs and g are (tasks, examples, channels, height, width).
#define EXPORT(T, SUFFIX)                                                                                                      \
  extern "C" void forward_##SUFFIX(const long* sizes, const long* stacks, T* const* params, double eps, const T* images, T* out, \
                                   T* state) {                                                                                 \
    const Stack s(sizes);                                                                                                      \
    forward<T>(s, eps, images, blocks(s, params, stacks), out, state);                                                         \
  }                                                                                                                            \
  extern "C" void backward_##SUFFIX(const long* sizes, const long* stacks, T* const* params, const long* to_stacks,              \
                                    T* const* results, const T* images, const T* state, const T* g, const T* more, T* kept) {  \
    const Stack s(sizes);                                                                                                      \
    backward<T>(s, images, blocks(s, params, stacks), state, g, more, kept, blocks(s, results, to_stacks));                    \
  }                                                                                                                            \
  extern "C" void second_##SUFFIX(const long* sizes, const long* stacks, T* const* params, const long* along_stacks,             \
                                  T* const* along, const long* to_stacks, T* const* results, const T* images, const T* state,  \
                                  const T* kept, T* to_g, T* to_state) {                                                       \
    const Stack s(sizes);                                                                                                      \
    second<T>(s, images, blocks(s, params, stacks), blocks(s, along, along_stacks), state, kept, to_g, to_state,               \
              blocks(s, results, to_stacks));                                                                                  \
  }

EXPORT(float, float32)
EXPORT(double, float64)

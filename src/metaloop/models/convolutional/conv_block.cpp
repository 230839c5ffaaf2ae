// Batch norm by channel, ReLU and 2x2 max-pooling in one kernel, with first and second derivatives, on one thread.
//
// All maps are (examples, height, width, channels) without gaps, and the number of channels is a multiple of 8. Sums over
// short stretches of rows are in the maps' own type and are added up in double, so that float32 stays precise on large maps.
//
// With z = weight (x - mean) r + bias, r = 1 / sqrt(var + eps), an output is relu(max of z over its window). "chosen" holds the
// x with the largest z of a window; the place chosen is the first of its window that is equal to it. D is the gradient g of the
// outputs at the chosen places with z > 0, and 0 elsewhere.

#include <cmath>
#include <vector>

#include "vectors.h"

namespace {

struct Shape { long examples, height, width, channels; };

// Maps are processed in pieces that fit in the cache. A piece p has a shape, an offset at(p) in pooled maps, values x(p), values
// a(p) of a second map of the same shape, and memory room(p) for a result, which done(p) stores.

// Maps in memory: one piece.
template <class T> struct Stored {
  Shape all;
  const T *values, *others;
  T* results;
  long pieces() const { return 1; }
  Shape shape(long) const { return all; }
  long at(long) const { return 0; }
  const T* x(long) const { return values; }
  const T* a(long) const { return others; }
  T* room(long) const { return results; }
  void done(long) const {}
};

// The 3x3 convolution (padding 1) of images, recomputed at every use, which is faster than reading it if an image has few
// channels. A piece is two rows of an image. Results are summed into the gradient of the kernel.
// Kernels and their gradients are (9 * image channels, channels), with the nine places first.
template <class T> struct Convolved {
  Shape all;  // of the result
  long depth;  // channels of the images
  const T *images, *kernel, *other;
  std::vector<T> image, first, second, result, sum;
  std::vector<double> gradient;
  long padded = -1;  // number of the image that is in "image", with a border of zeros

  Convolved(const Shape& all, long depth, const T* images, const T* kernel, const T* other)
      : all(all), depth(depth), images(images), kernel(kernel), other(other),
        image((all.height + 2) * (all.width + 2) * depth), first(2 * all.width * all.channels), second(other ? first.size() : 0),
        result(first.size()), sum(9 * depth * all.channels), gradient(sum.size()) {}

  long strips() const { return (all.height + 1) / 2; }
  long pieces() const { return all.examples * strips(); }
  Shape shape(long p) const { return {1, p % strips() * 2 + 2 > all.height ? 1L : 2L, all.width, all.channels}; }
  long at(long p) const {
    return (p / strips() * (all.height / 2) + p % strips()) * (all.width / 2) * all.channels;
  }
  const T* x(long p) { return convolved(p, kernel, first.data()); }
  const T* a(long p) { return convolved(p, other, second.data()); }
  T* room(long) { return result.data(); }

  void done(long p) {
    const Shape s = shape(p);
    const long line = (all.width + 2) * depth, C = all.channels;
    for (long group = 0; group < depth; ++group)  // nine sums fill the registers
      for (long c = 0; c < C; c += LANES<T>) {
        Vec<T> total[9] = {};
        for (long i = 0; i < s.height; ++i)
          for (long j = 0; j < s.width; ++j) {
            const T* under = image.data() + (p % strips() * 2 + i) * line + j * depth + group;
            const Vec<T> g = load(result.data() + (i * s.width + j) * C + c);
            for (int k = 0; k < 9; ++k) total[k] += under[k / 3 * line + k % 3 * depth] * g;
          }
        for (int k = 0; k < 9; ++k) {
          T* to = sum.data() + (k * depth + group) * C + c;
          store(to, load(to) + total[k]);
        }
      }
    if (p % strips() == strips() - 1)
      for (size_t k = 0; k < sum.size(); ++k) gradient[k] += (double)sum[k], sum[k] = 0;
  }

 private:
  const T* convolved(long p, const T* weights, T* to) {
    pad(p / strips());
    const Shape s = shape(p);
    for (long i = 0; i < s.height; ++i) {
      const T* from = image.data() + (p % strips() * 2 + i) * (all.width + 2) * depth;
      long j = 0;
      for (; j + 4 <= s.width; j += 4) pixels<4>(from + j * depth, weights, to + (i * s.width + j) * s.channels);
      for (; j < s.width; ++j) pixels<1>(from + j * depth, weights, to + (i * s.width + j) * s.channels);
    }
    return to;
  }

  template <int N> void pixels(const T* from, const T* weights, T* to) const {
    long c = 0;
    for (; c + 2 * LANES<T> <= all.channels; c += 2 * LANES<T>) channels<N, 2>(from, weights + c, to + c);
    for (; c < all.channels; c += LANES<T>) channels<N, 1>(from, weights + c, to + c);
  }

  // N places by M vectors of channels: the sums fill the registers, so that arithmetic and not loading takes the time.
  template <int N, int M> void channels(const T* from, const T* weight, T* to) const {
    const long line = (all.width + 2) * depth, C = all.channels;
    Vec<T> total[N][M] = {};
    for (long y = 0; y < 3; ++y)
      for (long k = 0; k < 3 * depth; ++k, weight += C)
        for (int j = 0; j < N; ++j)
          for (int m = 0; m < M; ++m) total[j][m] += from[y * line + k + j * depth] * load(weight + m * LANES<T>);
    for (int j = 0; j < N; ++j)
      for (int m = 0; m < M; ++m) store(to + j * C + m * LANES<T>, total[j][m]);
  }

  void pad(long n) {
    if (n == padded) return;
    padded = n;
    const long line = all.width * depth;
    for (long i = 0; i < all.height; ++i)
      for (long k = 0; k < line; ++k)
        image[(i + 1) * (line + 2 * depth) + depth + k] = images[(n * all.height + i) * line + k];
  }
};

// Calls visit(offsets of the window's places, offset of its output) for every window, and rest(offset) for places in no window.
template <bool POOL, class Visit, class Rest> void windows(const Shape& s, Visit visit, Rest rest) {
  const long C = s.channels;
  if (!POOL) {
    for (long row = 0; row < s.examples * s.height * s.width; ++row) {
      const long at[4] = {row * C, 0, 0, 0};
      visit(at, row * C);
    }
    return;
  }
  const long oh = s.height / 2, ow = s.width / 2;
  for (long n = 0; n < s.examples; ++n)
    for (long i = 0; i < s.height; i += 2) {
      const long top = (n * s.height + i) * s.width * C, below = top + s.width * C;
      const bool last = i + 1 == s.height;
      for (long j = 0; j + 1 < s.width && !last; j += 2) {
        const long at[4] = {top + j * C, top + (j + 1) * C, below + j * C, below + (j + 1) * C};
        visit(at, ((n * oh + i / 2) * ow + j / 2) * C);
      }
      for (long j = last ? 0 : s.width - s.width % 2; j < s.width; ++j) {
        rest(top + j * C);
        if (!last) rest(below + j * C);
      }
    }
}

inline long rows_of(const Shape& s) { return s.examples * s.height * s.width; }

template <class T, bool POOL, class Maps>
void forward(Maps& maps, const T* weight, const T* bias, double eps, T* out, T* chosen, T* mean, T* r) {
  const long rows = rows_of(maps.all), C = maps.all.channels;
  static thread_local double sum[2][MOST];
  static thread_local T start[MOST], scale[MOST], shift[MOST], sign[MOST];
  clear(sum, 2, C);
  for (long p = 0; p < maps.pieces(); ++p) {
    const T* x = maps.x(p);
    for (long c = 0; c < C && !p; ++c) start[c] = x[c];
    add_sums<2, T>(rows_of(maps.shape(p)), C, sum, [=](long row, long c, Vec<T>* term) {
      const Vec<T> d = load(x + row * C + c) - load(start + c);  // less the first row: no cancellation in the variance
      term[0] = d;
      term[1] = d * d;
    });
  }
  for (long c = 0; c < C; ++c) {
    const double off = sum[0][c] / rows, var = sum[1][c] / rows - off * off, middle = (double)start[c] + off;
    const double root = 1 / std::sqrt((var > 0 || var != var ? var : 0) + eps);
    mean[c] = (T)middle;
    r[c] = (T)root;
    scale[c] = (T)(weight[c] * root);
    shift[c] = (T)(bias[c] - middle * weight[c] * root);
    sign[c] = scale[c] > 0 ? 1 : scale[c] < 0 ? -1 : 0;
  }
  for (long p = 0; p < maps.pieces(); ++p) {
    const T* x = maps.x(p);
    T *o = out + maps.at(p), *w = chosen + maps.at(p);
    windows<POOL>(maps.shape(p), [=](const long* at, long to) {
      for (long c = 0; c < C; c += LANES<T>) {
        Vec<T> best = load(x + at[0] + c);
        if (POOL) {
          const Vec<T> up = load(sign + c);
          for (int k = 1; k < 4; ++k) {
            const Vec<T> other = load(x + at[k] + c);
            best = other * up > best * up ? other : best;
          }
          store(w + to + c, best);
        }
        const Vec<T> z = best * load(scale + c) + load(shift + c);
        store(o + to + c, z < 0 ? Vec<T>{} : z);  // nan stays
      }
    }, [](long) {});
  }
}

// gb = sum D, gw = sum D xhat, gx = weight r (D - mean D - xhat mean(D xhat)).
template <class T, bool POOL, class Maps>
void backward(Maps& maps, const T* chosen, const T* out, const T* g, const T* weight, const T* mean, const T* r, T* gw, T* gb) {
  const Shape s = maps.all;
  const long rows = rows_of(s), C = s.channels, pooled = POOL ? s.examples * (s.height / 2) * (s.width / 2) : rows;
  static thread_local double sum[2][MOST];
  clear(sum, 2, C);
  add_sums<2, T>(pooled, C, sum, [=](long row, long c, Vec<T>* term) {
    const long at = row * C + c;
    term[0] = load(out + at) > 0 ? load(g + at) : Vec<T>{};
    term[1] = term[0] * (load(chosen + at) - load(mean + c));
  });
  static thread_local T k1[MOST], k2[MOST], k3[MOST];
  for (long c = 0; c < C; ++c) {
    const double root = r[c], scale = weight[c] * root;
    gb[c] = (T)sum[0][c];
    gw[c] = (T)(sum[1][c] * root);
    k1[c] = (T)scale;
    k2[c] = (T)(-scale * root * root * sum[1][c] / rows);
    k3[c] = (T)(-scale * sum[0][c] / rows);
  }
  for (long p = 0; p < maps.pieces(); ++p) {
    const T *x = maps.x(p), *w = chosen + maps.at(p), *o = out + maps.at(p), *d_out = g + maps.at(p);
    T* gx = maps.room(p);
    windows<POOL>(maps.shape(p), [=](const long* at, long to) {
      for (long c = 0; c < C; c += LANES<T>) {
        const Vec<T> zero = {}, a = load(k2 + c), b = load(k3 + c), m = load(mean + c), won = load(w + to + c);
        Vec<T> left = (load(o + to + c) > 0 ? load(d_out + to + c) : zero) * load(k1 + c);
        for (int k = 0; k < (POOL ? 4 : 1); ++k) {
          const Vec<T> here = load(x + at[k] + c);
          Vec<T> d = left;
          if (POOL) {
            const auto first = here == won;
            d = first ? left : zero;
            left = first ? zero : left;
          }
          store(gx + at[k] + c, d + a * (here - m) + b);
        }
      }
    }, [=](long at) {
      for (long c = 0; c < C; c += LANES<T>)
        store(gx + at + c, load(k2 + c) * (load(x + at + c) - load(mean + c)) + load(k3 + c));
    });
    maps.done(p);
  }
}

// The derivatives of sum(a gx) + sum(cw gw) + sum(cb gb) with respect to g, x and weight. P(u) = u - mean u - xhat mean(u xhat)
// is its own adjoint, sum(u xhat) has the derivative r P(u) in x, and r has -r^2 xhat / rows.
template <class T, bool POOL, class Maps>
void second(Maps& maps, const T* chosen, const T* out, const T* g, const T* weight, const T* mean, const T* r, const T* gw,
            const T* gb, const T* cw, const T* cb, T* to_g, T* to_weight) {
  const long rows = rows_of(maps.all), C = maps.all.channels;
  static thread_local double dense[2][MOST], product[MOST];
  static thread_local T ad[MOST];
  clear(dense, 2, C);
  for (long c = 0; c < C; ++c) product[c] = ad[c] = 0;
  long since = 0;
  const auto flush = [=] {
    for (long c = 0; c < C; ++c) product[c] += (double)ad[c], ad[c] = 0;
  };
  for (long p = 0; p < maps.pieces(); ++p) {
    const T *x = maps.x(p), *a = maps.a(p), *w = chosen + maps.at(p), *o = out + maps.at(p), *d_out = g + maps.at(p);
    T* kept = to_g + maps.at(p);
    add_sums<2, T>(rows_of(maps.shape(p)), C, dense, [=](long row, long c, Vec<T>* term) {
      const long at = row * C + c;
      term[0] = load(a + at);
      term[1] = term[0] * (load(x + at) - load(mean + c));
    });
    // sum(a D), and a at the chosen places, stored in to_g.
    windows<POOL>(maps.shape(p), [&](const long* at, long to) {
      for (long c = 0; c < C; c += LANES<T>) {
        const Vec<T> zero = {}, won = load(w + to + c);
        Vec<T> found = load(a + at[POOL ? 3 : 0] + c);
        if (POOL)
          for (int k = 2; k >= 0; --k) found = load(x + at[k] + c) == won ? load(a + at[k] + c) : found;
        store(kept + to + c, found);
        store(ad + c, load(ad + c) + (load(o + to + c) > 0 ? load(d_out + to + c) * found : zero));
      }
      if (++since == ROWS) flush(), since = 0;
    }, [](long) {});
  }
  flush();
  static thread_local T e1[MOST], e2[MOST], e3[MOST], e4[MOST], h1[MOST], h2[MOST], h3[MOST];
  for (long c = 0; c < C; ++c) {
    const double root = r[c], scale = weight[c] * root, w1 = cw[c], b1 = cb[c];
    const double abar = dense[0][c] / rows, alpha = dense[1][c] * root / rows;
    const double dbar = gb[c] / (double)rows, q = gw[c] / (double)rows;
    const double inner = product[c] - rows * (abar * dbar + alpha * q);  // sum(a P(D))
    const double p = root * (w1 - scale * alpha), t = -root * scale * q;
    to_weight[c] = (T)(root * inner);
    e1[c] = (T)p;
    e2[c] = (T)t;
    e3[c] = (T)((-p * q - t * alpha - scale * root * inner / rows) * root);
    e4[c] = (T)(-p * dbar - t * abar);
    h1[c] = (T)scale;
    h2[c] = (T)((w1 - scale * alpha) * root);
    h3[c] = (T)(b1 - scale * abar);
  }
  for (long p = 0; p < maps.pieces(); ++p) {
    const T *x = maps.x(p), *a = maps.a(p), *w = chosen + maps.at(p), *o = out + maps.at(p), *d_out = g + maps.at(p);
    T *kept = to_g + maps.at(p), *to_x = maps.room(p);
    windows<POOL>(maps.shape(p), [=](const long* at, long to) {
      for (long c = 0; c < C; c += LANES<T>) {
        const Vec<T> zero = {}, m = load(mean + c), won = load(w + to + c);
        const auto active = load(o + to + c) > 0;
        Vec<T> left = (active ? load(d_out + to + c) : zero) * load(e1 + c);
        const Vec<T> back = load(h1 + c) * load(kept + to + c) + load(h2 + c) * (won - m) + load(h3 + c);
        store(kept + to + c, active ? back : zero);
        for (int k = 0; k < (POOL ? 4 : 1); ++k) {
          const Vec<T> here = load(x + at[k] + c);
          Vec<T> d = left;
          if (POOL) {
            const auto first = here == won;
            d = first ? left : zero;
            left = first ? zero : left;
          }
          store(to_x + at[k] + c, d + load(e2 + c) * load(a + at[k] + c) + load(e3 + c) * (here - m) + load(e4 + c));
        }
      }
    }, [=](long at) {
      for (long c = 0; c < C; c += LANES<T>)
        store(to_x + at + c,
              load(e2 + c) * load(a + at + c) + load(e3 + c) * (load(x + at + c) - load(mean + c)) + load(e4 + c));
    });
    maps.done(p);
  }
}

}  // namespace

// "tasks" stacks of n maps each follow one another, each with its own weights and statistics. first_* are the same for one
// stack, the convolution of images (n, h, w, d) with a kernel (9 * d, c), always pooled.
#define EXPORT(T, SUFFIX)                                                                                                      \
  extern "C" void forward_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double eps, const T* x,                 \
                                   const T* weight, const T* bias, T* out, T* chosen, T* mean, T* r) {                         \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t) {                                                                                         \
      Stored<T> maps = {{n, h, w, c}, x + t * all, nullptr, nullptr};                                                          \
      const auto run = pool ? forward<T, true, Stored<T>> : forward<T, false, Stored<T>>;                                      \
      run(maps, weight + t * c, bias + t * c, eps, out + t * part, chosen + t * part, mean + t * c, r + t * c);                \
    }                                                                                                                          \
  }                                                                                                                            \
  extern "C" void backward_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double, const T* x, const T* chosen,   \
                                    const T* out, const T* g, const T* weight, const T* mean, const T* r, T* gx, T* gw,        \
                                    T* gb) {                                                                                   \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t) {                                                                                         \
      Stored<T> maps = {{n, h, w, c}, x + t * all, nullptr, gx + t * all};                                                     \
      const auto run = pool ? backward<T, true, Stored<T>> : backward<T, false, Stored<T>>;                                    \
      run(maps, chosen + t * part, out + t * part, g + t * part, weight + t * c, mean + t * c, r + t * c, gw + t * c,          \
          gb + t * c);                                                                                                         \
    }                                                                                                                          \
  }                                                                                                                            \
  extern "C" void second_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double, const T* x, const T* chosen,     \
                                  const T* out, const T* g, const T* weight, const T* mean, const T* r, const T* gw,           \
                                  const T* gb, const T* a, const T* cw, const T* cb, T* to_g, T* to_x, T* to_weight) {         \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t) {                                                                                         \
      Stored<T> maps = {{n, h, w, c}, x + t * all, a + t * all, to_x + t * all};                                               \
      const auto run = pool ? second<T, true, Stored<T>> : second<T, false, Stored<T>>;                                        \
      run(maps, chosen + t * part, out + t * part, g + t * part, weight + t * c, mean + t * c, r + t * c, gw + t * c,          \
          gb + t * c, cw + t * c, cb + t * c, to_g + t * part, to_weight + t * c);                                             \
    }                                                                                                                          \
  }                                                                                                                            \
  extern "C" void first_forward_##SUFFIX(long n, long h, long w, long c, long d, double eps, const T* images, const T* kernel,    \
                                         const T* weight, const T* bias, T* out, T* chosen, T* mean, T* r) {                   \
    Convolved<T> maps({n, h, w, c}, d, images, kernel, nullptr);                                                               \
    forward<T, true>(maps, weight, bias, eps, out, chosen, mean, r);                                                           \
  }                                                                                                                            \
  extern "C" void first_backward_##SUFFIX(long n, long h, long w, long c, long d, double, const T* images, const T* kernel,      \
                                          const T* chosen, const T* out, const T* g, const T* weight, const T* mean,           \
                                          const T* r, T* gk, T* gw, T* gb) {                                                   \
    Convolved<T> maps({n, h, w, c}, d, images, kernel, nullptr);                                                               \
    backward<T, true>(maps, chosen, out, g, weight, mean, r, gw, gb);                                                          \
    for (long k = 0; k < 9 * d * c; ++k) gk[k] = (T)maps.gradient[k];                                                          \
  }                                                                                                                            \
  extern "C" void first_second_##SUFFIX(long n, long h, long w, long c, long d, double, const T* images, const T* kernel,        \
                                        const T* chosen, const T* out, const T* g, const T* weight, const T* mean,             \
                                        const T* r, const T* gw, const T* gb, const T* ak, const T* cw, const T* cb, T* to_g,  \
                                        T* to_kernel, T* to_weight) {                                                          \
    Convolved<T> maps({n, h, w, c}, d, images, kernel, ak);                                                                    \
    second<T, true>(maps, chosen, out, g, weight, mean, r, gw, gb, cw, cb, to_g, to_weight);                                   \
    for (long k = 0; k < 9 * d * c; ++k) to_kernel[k] = (T)maps.gradient[k];                                                   \
  }

EXPORT(float, float32)
EXPORT(double, float64)

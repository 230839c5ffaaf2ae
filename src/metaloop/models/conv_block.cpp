// Batch norm by channel, ReLU and 2x2 max-pooling in one, with first and second derivatives, on one thread.
//
// All maps are (examples, height, width, channels) without gaps, and the number of channels is a multiple of 8. Sums run in the
// maps' own type over short stretches of rows that are then added up in double, so that float32 loses nothing on large maps.
//
// With z = weight (x - mean) r + bias, r = 1 / sqrt(var + eps), an output is relu(max of z over its window). "chosen" holds the x
// that won a window, so a place has won when it is the first of its window equal to it. D is the gradient g of the outputs at the
// places that won with z > 0, and 0 elsewhere.

#include <cmath>

namespace {

constexpr int BYTES = 32, ROWS = 128, MOST = 1024;  // a vector, rows summed in their own type, channels

template <class T> struct Vector;
template <> struct Vector<float> { typedef float type __attribute__((vector_size(BYTES))); };
template <> struct Vector<double> { typedef double type __attribute__((vector_size(BYTES))); };
template <class T> using Vec = typename Vector<T>::type;
template <class T> constexpr int LANES = BYTES / sizeof(T);

template <class T> inline Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, BYTES);  // memory need not be aligned
  return v;
}
template <class T, class V> inline void store(T* p, V v) { __builtin_memcpy(p, &v, BYTES); }

struct Shape { long examples, height, width, channels; };

// sums[k][c] over rows of the K terms that term(row, c, out) gives for the vector of channels at c.
template <int K, class T, class Term> void sums(long rows, long channels, double (*sum)[MOST], Term term) {
  for (int k = 0; k < K; ++k)
    for (long c = 0; c < channels; ++c) sum[k][c] = 0;
  for (long start = 0; start < rows; start += ROWS) {
    const long end = start + ROWS < rows ? start + ROWS : rows;
    for (long c = 0; c < channels; c += LANES<T>) {
      Vec<T> total[2][K] = {};
      long row = start;
      for (; row + 1 < end; row += 2)
        for (int half = 0; half < 2; ++half) {
          Vec<T> out[K];
          term(row + half, c, out);
          for (int k = 0; k < K; ++k) total[half][k] += out[k];
        }
      if (row < end) {
        Vec<T> out[K];
        term(row, c, out);
        for (int k = 0; k < K; ++k) total[0][k] += out[k];
      }
      for (int k = 0; k < K; ++k)
        for (int lane = 0; lane < LANES<T>; ++lane) sum[k][c + lane] += (double)(total[0][k][lane] + total[1][k][lane]);
    }
  }
}

// Calls visit(offsets of the window's places, offset of its output) for every window, and rest(offset) for places in none.
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

template <class T, bool POOL>
void forward(const Shape& s, const T* x, const T* weight, const T* bias, double eps, T* out, T* chosen, T* mean, T* r) {
  const long rows = s.examples * s.height * s.width, C = s.channels;
  static thread_local double sum[2][MOST];
  sums<2, T>(rows, C, sum, [=](long row, long c, Vec<T>* term) {  // about the first row: no cancellation in the variance
    const Vec<T> d = load(x + row * C + c) - load(x + c);
    term[0] = d;
    term[1] = d * d;
  });
  static thread_local T scale[MOST], shift[MOST], sign[MOST];
  for (long c = 0; c < C; ++c) {
    const double off = sum[0][c] / rows, var = sum[1][c] / rows - off * off, middle = (double)x[c] + off;
    const double root = 1 / std::sqrt((var > 0 || var != var ? var : 0) + eps);
    mean[c] = (T)middle;
    r[c] = (T)root;
    scale[c] = (T)(weight[c] * root);
    shift[c] = (T)(bias[c] - middle * weight[c] * root);
    sign[c] = scale[c] > 0 ? 1 : scale[c] < 0 ? -1 : 0;
  }
  windows<POOL>(s, [=](const long* at, long to) {
    for (long c = 0; c < C; c += LANES<T>) {
      Vec<T> best = load(x + at[0] + c);
      if (POOL) {
        const Vec<T> up = load(sign + c);
        for (int k = 1; k < 4; ++k) {
          const Vec<T> other = load(x + at[k] + c);
          best = other * up > best * up ? other : best;
        }
        store(chosen + to + c, best);
      }
      const Vec<T> z = best * load(scale + c) + load(shift + c);
      store(out + to + c, z < 0 ? Vec<T>{} : z);  // nan stays
    }
  }, [](long) {});
}

// gb = sum D, gw = sum D xhat, gx = weight r (D - mean D - xhat mean(D xhat)).
template <class T, bool POOL>
void backward(const Shape& s, const T* x, const T* chosen, const T* out, const T* g, const T* weight, const T* mean, const T* r,
              T* gx, T* gw, T* gb) {
  const long rows = s.examples * s.height * s.width, C = s.channels;
  const long pooled = POOL ? s.examples * (s.height / 2) * (s.width / 2) : rows;
  static thread_local double sum[2][MOST];
  sums<2, T>(pooled, C, sum, [=](long row, long c, Vec<T>* term) {
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
  const auto rest = [=](long at) {
    for (long c = 0; c < C; c += LANES<T>)
      store(gx + at + c, load(k2 + c) * (load(x + at + c) - load(mean + c)) + load(k3 + c));
  };
  windows<POOL>(s, [=](const long* at, long to) {
    for (long c = 0; c < C; c += LANES<T>) {
      const Vec<T> zero = {}, a = load(k2 + c), b = load(k3 + c), m = load(mean + c), won = load(chosen + to + c);
      Vec<T> left = (load(out + to + c) > 0 ? load(g + to + c) : zero) * load(k1 + c);
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
  }, rest);
}

// The derivatives of sum(a gx) + sum(cw gw) + sum(cb gb) with respect to g, x and weight. P(u) = u - mean u - xhat mean(u xhat)
// is its own adjoint, sum(u xhat) has the derivative r P(u) in x, and r has -r^2 xhat / rows.
template <class T, bool POOL>
void second(const Shape& s, const T* x, const T* chosen, const T* out, const T* g, const T* weight, const T* mean, const T* r,
            const T* gw, const T* gb, const T* a, const T* cw, const T* cb, T* to_g, T* to_x, T* to_weight) {
  const long rows = s.examples * s.height * s.width, C = s.channels;
  static thread_local double dense[2][MOST];
  static thread_local T ad[MOST];
  static thread_local double product[MOST];
  sums<2, T>(rows, C, dense, [=](long row, long c, Vec<T>* term) {
    const long at = row * C + c;
    term[0] = load(a + at);
    term[1] = term[0] * (load(x + at) - load(mean + c));
  });
  // sum(a D), and a at the places that won, kept in to_g.
  for (long c = 0; c < C; ++c) product[c] = ad[c] = 0;
  long since = 0;
  const auto flush = [=] {
    for (long c = 0; c < C; ++c) product[c] += (double)ad[c], ad[c] = 0;
  };
  windows<POOL>(s, [&](const long* at, long to) {
    for (long c = 0; c < C; c += LANES<T>) {
      const Vec<T> zero = {}, won = load(chosen + to + c);
      Vec<T> found = load(a + at[POOL ? 3 : 0] + c);
      if (POOL)
        for (int k = 2; k >= 0; --k) found = load(x + at[k] + c) == won ? load(a + at[k] + c) : found;
      store(to_g + to + c, found);
      store(ad + c, load(ad + c) + (load(out + to + c) > 0 ? load(g + to + c) * found : zero));
    }
    if (++since == ROWS) flush(), since = 0;
  }, [](long) {});
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
  windows<POOL>(s, [=](const long* at, long to) {
    for (long c = 0; c < C; c += LANES<T>) {
      const Vec<T> zero = {}, m = load(mean + c), won = load(chosen + to + c);
      const auto active = load(out + to + c) > 0;
      Vec<T> left = (active ? load(g + to + c) : zero) * load(e1 + c);
      const Vec<T> back = load(h1 + c) * load(to_g + to + c) + load(h2 + c) * (won - m) + load(h3 + c);
      store(to_g + to + c, active ? back : zero);
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
}

// Calls visit(offset in x, offset in rows, inside) for the nine places under every output of a 3x3 convolution with padding 1.
template <class Visit> void under(long n, long h, long w, long c, long stride, Visit visit) {
  const long oh = (h - 1) / stride + 1, ow = (w - 1) / stride + 1;
  long to = 0;
  for (long e = 0; e < n; ++e)
    for (long i = 0; i < oh; ++i)
      for (long j = 0; j < ow; ++j)
        for (long y = i * stride - 1; y < i * stride + 2; ++y)
          for (long x = j * stride - 1; x < j * stride + 2; ++x, to += c)
            visit(((e * h + y) * w + x) * c, to, y >= 0 && y < h && x >= 0 && x < w);
}

template <class T> void patches(long n, long h, long w, long c, long stride, const T* x, T* rows) {
  under(n, h, w, c, stride, [=](long at, long to, bool inside) {
    if (inside)
      for (long k = 0; k < c; ++k) rows[to + k] = x[at + k];
    else
      for (long k = 0; k < c; ++k) rows[to + k] = 0;
  });
}

template <class T> void gathered(long n, long h, long w, long c, long stride, const T* rows, T* x) {
  for (long at = 0; at < n * h * w * c; ++at) x[at] = 0;
  under(n, h, w, c, stride, [=](long at, long to, bool inside) {
    if (inside)
      for (long k = 0; k < c; ++k) x[at + k] += rows[to + k];
  });
}

}  // namespace

// "tasks" stacks of n maps each stand one after the other, each with its own weights and statistics.
#define EXPORT(T, SUFFIX)                                                                                                      \
  extern "C" void forward_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double eps, const T* x,                 \
                                   const T* weight, const T* bias, T* out, T* chosen, T* mean, T* r) {                         \
    const Shape s = {n, h, w, c};                                                                                              \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t)                                                                                           \
      (pool ? forward<T, true> : forward<T, false>)(s, x + t * all, weight + t * c, bias + t * c, eps, out + t * part,         \
                                                    chosen + t * part, mean + t * c, r + t * c);                               \
  }                                                                                                                            \
  extern "C" void backward_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double, const T* x, const T* chosen,   \
                                    const T* out, const T* g, const T* weight, const T* mean, const T* r, T* gx, T* gw,        \
                                    T* gb) {                                                                                   \
    const Shape s = {n, h, w, c};                                                                                              \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t)                                                                                           \
      (pool ? backward<T, true> : backward<T, false>)(s, x + t * all, chosen + t * part, out + t * part, g + t * part,         \
                                                      weight + t * c, mean + t * c, r + t * c, gx + t * all, gw + t * c,       \
                                                      gb + t * c);                                                             \
  }                                                                                                                            \
  extern "C" void second_##SUFFIX(long tasks, long n, long h, long w, long c, int pool, double, const T* x, const T* chosen,     \
                                  const T* out, const T* g, const T* weight, const T* mean, const T* r, const T* gw,           \
                                  const T* gb, const T* a, const T* cw, const T* cb, T* to_g, T* to_x, T* to_weight) {         \
    const Shape s = {n, h, w, c};                                                                                              \
    const long all = n * h * w * c, part = pool ? n * (h / 2) * (w / 2) * c : all;                                             \
    for (long t = 0; t < tasks; ++t)                                                                                           \
      (pool ? second<T, true> : second<T, false>)(s, x + t * all, chosen + t * part, out + t * part, g + t * part,             \
                                                  weight + t * c, mean + t * c, r + t * c, gw + t * c, gb + t * c,             \
                                                  a + t * all, cw + t * c, cb + t * c, to_g + t * part, to_x + t * all,        \
                                                  to_weight + t * c);                                                          \
  }                                                                                                                            \
  extern "C" void patches_##SUFFIX(long n, long h, long w, long c, long stride, const T* x, T* rows) {                           \
    patches(n, h, w, c, stride, x, rows);                                                                                      \
  }                                                                                                                            \
  extern "C" void gathered_##SUFFIX(long n, long h, long w, long c, long stride, const T* rows, T* x) {                          \
    gathered(n, h, w, c, stride, rows, x);                                                                                     \
  }

EXPORT(float, float32)
EXPORT(double, float64)

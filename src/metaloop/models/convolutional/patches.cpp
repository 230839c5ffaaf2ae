// The 3x3 patches of maps as rows of a matrix, one row for each output of a convolution, and the adjoint.
// Maps are (examples, height, width, channels) without gaps.

namespace {

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

#define EXPORT(T, SUFFIX)                                                                                                      \
  extern "C" void patches_##SUFFIX(long n, long h, long w, long c, long stride, const T* x, T* rows) {                           \
    patches(n, h, w, c, stride, x, rows);                                                                                      \
  }                                                                                                                            \
  extern "C" void gathered_##SUFFIX(long n, long h, long w, long c, long stride, const T* rows, T* x) {                          \
    gathered(n, h, w, c, stride, rows, x);                                                                                     \
  }

EXPORT(float, float32)
EXPORT(double, float64)

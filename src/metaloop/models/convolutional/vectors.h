// Vectors of channels and sums over rows. A row holds the channels of one place, without gaps.
//
// Sums over short stretches of rows are in the rows' own type and are added up in double, so that float32 stays precise on
// large maps.

#pragma once

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

// Adds to sum[k][c] the sums over rows of the K terms that term(row, c, out) computes for the vector of channels at c.
template <int K, class T, class Term> void add_sums(long rows, long channels, double (*sum)[MOST], Term term) {
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

inline void clear(double (*sum)[MOST], int terms, long channels) {
  for (int k = 0; k < terms; ++k)
    for (long c = 0; c < channels; ++c) sum[k][c] = 0;
}

}  // namespace

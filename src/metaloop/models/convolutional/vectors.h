// Vectors of channels and sums over rows. A row holds the channels of one place, without gaps.
//
// Sums over short stretches of rows are in the rows' own type and are added up in double, so that float32 stays precise on
// large maps.

#pragma once

#include <utility>

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

template <class T> struct Whole;
template <> struct Whole<float> { typedef int type __attribute__((vector_size(BYTES))); };
template <> struct Whole<double> { typedef long type __attribute__((vector_size(BYTES))); };

// The lanes of a and b, numbered one after the other, in the order Lane...
template <class T, int... Lane> inline Vec<T> shuffled(Vec<T> a, Vec<T> b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, Lane...);
#else
  return __builtin_shuffle(a, b, typename Whole<T>::type{Lane...});
#endif
}

// Swaps, in every square of 2 * SIDE rows and lanes, the quarter at the upper right with that at the lower left.
template <class T, int SIDE, int... Lane> inline void swap_quarters(Vec<T>* rows, std::integer_sequence<int, Lane...>) {
  for (int i = 0; i < LANES<T>; ++i)
    if (!(i & SIDE)) {
      const Vec<T> a = rows[i], b = rows[i + SIDE];
      rows[i] = shuffled<T, (Lane & SIDE ? LANES<T> + Lane - SIDE : Lane)...>(a, b);
      rows[i + SIDE] = shuffled<T, (Lane & SIDE ? LANES<T> + Lane : Lane + SIDE)...>(a, b);
    }
}

// Transposes a square of numbers, one vector a row.
template <class T, int SIDE = LANES<T> / 2> inline void transpose(Vec<T>* rows) {
  swap_quarters<T, SIDE>(rows, std::make_integer_sequence<int, LANES<T>>());
  if constexpr (SIDE > 1) transpose<T, SIDE / 2>(rows);
}

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

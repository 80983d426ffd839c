module tulle.dev/tests/skew

go 1.24

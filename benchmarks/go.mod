module github.com/flipcache/flipcache/benchmarks

go 1.25.0

require github.com/flipcache/flipcache v0.0.0

replace github.com/flipcache/flipcache => ../

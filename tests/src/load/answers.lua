-- For wrk with one thread: counts answers by the rule that they came under (header x-rule, which a route sets) and the
-- version that gave them, and says when the first and the last of each came, in seconds since 1970.
local ffi = require "ffi"
ffi.cdef "typedef struct { long seconds, nanoseconds; } when; int clock_gettime(int, when *);"
local now = ffi.new "when"
local threads = {}

function setup(thread) table.insert(threads, thread) end

-- Flat tables: wrk does not survive others.
function init() counts, firsts, lasts = {}, {}, {} end

function response(status, headers, body)
  ffi.C.clock_gettime(0, now)
  local time = tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
  local version = body:match '"version": "(%w+)"' or "status " .. status
  local kind = (headers["x-rule"] or "none") .. "/" .. version
  counts[kind] = (counts[kind] or 0) + 1
  firsts[kind] = firsts[kind] or time
  lasts[kind] = time
end

function done()
  local thread = threads[1]
  local firsts, lasts = thread:get "firsts", thread:get "lasts"
  for kind, count in pairs(thread:get "counts") do
    print(("answers %d %.6f %.6f %s"):format(count, firsts[kind], lasts[kind], kind))
  end
end

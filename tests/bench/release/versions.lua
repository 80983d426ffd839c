-- For wrk with one thread: counts answers by what they say.
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init() counts = {} end

function response(status, headers, body)
  local version = status == 200 and body or "status " .. status
  counts[version] = (counts[version] or 0) + 1
end

function done()
  for version, count in pairs(threads[1]:get "counts") do print(("version %s %d"):format(version, count)) end
end

# A Backbeat client in Ruby, as the original's library behaves on the wire: it looks a workflow up, creates it, signals
# it with its subject as a JSON text, and does its work inside the request that brings an activity: status, children one
# by one, completed, and only then the answer. Prints one JSON line about how it went.
#
# usage: ruby ruby_client.rb BASE_URL CLIENT_ID TOKEN PORT

require "json"
require "net/http"
require "socket"

BASE, CLIENT_ID, TOKEN, PORT = URI(ARGV[0]), ARGV[1], ARGV[2], Integer(ARGV[3])
COUNT = Integer(ARGV[4] || 1)
STEPS = %w[collect compute send archive].freeze

$seen = Queue.new
$failed = {}

def call(verb, path, body = nil)
  request = Net::HTTP.const_get(verb).new(path)
  request["Client-Id"] = CLIENT_ID
  request["Authorization"] = "Token token=\"#{TOKEN}\""
  request["Content-Type"] = "application/json"
  request.body = JSON.generate(body) if body
  answer = Net::HTTP.start(BASE.host, BASE.port) { |http| http.request(request) }
  [answer.code.to_i, answer.body.to_s.empty? ? nil : JSON.parse(answer.body)]
end

def status(id, word, response = nil)
  call("Put", "/v2/events/#{id}/status/#{word}", { response: response })
end

def decide(node)
  status(node["id"], "deciding")
  STEPS.each_with_index do |name, at|
    mode = at.zero? ? "non_blocking" : "blocking"
    decision = { name: name, type: "activity", mode: mode, retry: 1, retryInterval: 0,
                 clientData: { name: name, params: [{ lastName: "Ødegård", "a.b" => { "$set" => 2**70 } }] } }
    code, ids = call("Post", "/v2/events/#{node["id"]}/decisions", { decisions: [decision] })
    raise "decisions: #{code} #{ids}" unless code == 201 && ids.size == 1
  end
  status(node["id"], "deciding_complete", { jsonrpc: "2.0", result: nil, id: nil })
end

def work(node)
  status(node["id"], "processing")
  if node["name"] == "compute" && !$failed[node["id"]]
    $failed[node["id"]] = true
    return status(node["id"], "errored", { error: { code: -32_000, message: "not yet", data: { tries: 1 } } })
  end
  return status(node["id"], "errored", { error: { message: "never" } }) if %w[send archive].include?(node["name"])

  raise "data changed on its way" unless node["clientData"]["params"] == [{ "lastName" => "Ødegård", "a.b" => { "$set" => 2**70 } }]

  done = -> { status(node["id"], "completed", { jsonrpc: "2.0", result: node["name"], id: nil }) }
  node["name"] == "collect" ? Thread.new { sleep 0.05; done.call } : done.call
end

def rescued(node)
  word = node["name"] == "send" ? "resolved" : "shutdown"
  status(node["id"], word, { result: "by the rescue handler" })
end

def answer(path, body)
  $seen << [path, (body["activity"] || body["decision"])["name"]]
  case path
  when "/decision" then decide(body["decision"])
  when "/activity" then work(body["activity"])
  when "/notification" then rescued(body["activity"])
  end
end

def serve(socket)
  path = socket.gets.split[1]
  length = 0
  while (line = socket.gets.strip) != ""
    length = Integer(line.split(":")[1]) if line.downcase.start_with?("content-length:")
  end
  answer(path, JSON.parse(socket.read(length)))
  socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
rescue StandardError => e
  warn "#{e.class}: #{e.message}"
  socket.write("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
ensure
  socket.close
end

server = TCPServer.new("127.0.0.1", PORT)
Thread.new { loop { Thread.new(server.accept) { |socket| serve(socket) } } }

def begin_workflow(place)
  facts = { invoice: 4711 + place, merchant: "A & B <c>" }
  subject = JSON.generate(facts)
  unencoded = facts.map { |key, value| ["subject[#{key}]", value] }
  lookups = [unencoded, [[:subject, subject]]].map do |parts|
    "/v2/workflows?" + URI.encode_www_form(parts + [[:decider, "Decider"], [:workflow_type, "vat"]])
  end
  before = lookups.map { |path| call("Get", path)[0] }
  made = 2.times.map { call("Post", "/v2/workflows", { workflow_type: "vat", subject: subject, decider: "Decider" }) }
  workflow = made[0][1]
  after = lookups.map { |path| call("Get", path) }
  signalled, = call("Post", "/v2/workflows/#{workflow["id"]}/signal/start",
                    { options: { client_data: { name: "start", params: [] }, metadata: { version: "v2" } } })
  { id: workflow["id"], before: before, after: after.map(&:first), created: made.map(&:first),
    one: made.map { |m| m[1]["id"] }.uniq.size == 1, found: after[1][1]["id"] == workflow["id"],
    subject: workflow["subject"] == subject, signalled: signalled }
end

def tree_of(id)
  call("Get", "/v2/workflows/#{id}/tree")[1]
end

begun = COUNT.times.map { |place| begin_workflow(place) }
limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 150
trees = begun.map do |workflow|
  tree = nil
  while Process.clock_gettime(Process::CLOCK_MONOTONIC) < limit
    tree = tree_of(workflow[:id])
    break if tree["children"].any? && tree["children"].all? { |child| child["currentServerStatus"] == "complete" }

    sleep 0.05
  end
  tree
end

puts JSON.generate(
  begun: begun.map { |one| one.reject { |key, _| key == :id } }.uniq,
  signals: trees.map { |tree| tree["children"].map { |child| [child["name"], child["currentServerStatus"]] } }.uniq,
  steps: trees.map do |tree|
    tree["children"][0]["children"].map { |child| %w[name currentServerStatus currentClientStatus].map { |key| child[key] } }
  end.uniq,
  seen: Array.new($seen.size) { $seen.pop }
)

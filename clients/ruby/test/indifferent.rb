# frozen_string_literal: true

# The same calls on this library's Hash and on ActiveSupport's: what differs is printed. Run by test_package.
require "taskerd"

MAKE = { a: 1, "b" => { c: [{ d: 2 }], "e" => nil }, 3 => 4 }.freeze
CALLS = {
  get: ->(h) { [h[:a], h["a"], h[:b][:c][0]["d"], h["b"]["c"].first[:d], h[3], h[:none]] }, fetch: ->(h) { [h.fetch(:a), h.fetch(:x, 5), h.fetch("x") { |k| k }] },
  dig: ->(h) { [h.dig(:b, "c", 0, :d), h.dig("b", :x, :y)] }, key: ->(h) { [h.key?(:a), h.include?("b"), h.has_key?(:x), h.member?(:b), h.any?, h.size] },
  values_at: ->(h) { [h.values_at(:a, "x"), h.fetch_values(:a)] }, slice: ->(h) { [h.slice(:a, "b")[:a], h.slice(:a).class == h.class, h.except(:a).keys] },
  merge: ->(h) { h.merge(a: 2, z: { y: 1 }).then { |m| [m["a"], m[:z]["y"], h[:a], m.class == h.class] } }, update: ->(h) { h.dup.update("a" => 5)[:a] },
  store: ->(h) { h.dup.tap { |x| x[:new] = { k: 1 } }["new"]["k"] }, delete: ->(h) { h.dup.then { |x| [x.delete(:a), x.key?("a")] } },
  select: ->(h) { h.select { |k, _| k == "a" }.then { |s| [s[:a], s.class == h.class] } }, reject: ->(h) { h.reject { |k, _| k == "a" }.keys }, compact: ->(h) { h["b"].compact.keys },
  transform: ->(h) { [h.transform_values(&:to_s)[:a], h.transform_keys(&:to_s).keys] }, to_hash: ->(h) { [h.to_hash, h.to_hash.class, h.to_h.class, h["b"].to_hash["c"][0].class] },
  symbolize: ->(h) { [h.slice(:a, :b).deep_symbolize_keys, h.slice(:a).symbolize_keys] }, each: ->(h) { h.map { |k, _| k } }, pattern: ->(h) { h.slice(:a, :b) in { a: Integer } },
  json: ->(h) { JSON.generate(h) }, equal: ->(h) { [h == { "a" => 1, "b" => { "c" => [{ "d" => 2 }], "e" => nil }, 3 => 4 }, h == h.dup] }, is: ->(h) { h.is_a?(Hash) },
  splat: ->(h) { { **h.slice(:a) } }, dup: ->(h) { h.dup.then { |x| x[:a] = 9; [h[:a], x[:a], x.class == h.class] } }, sort: ->(h) { h.slice(:a, :b).sort_by { |k, _| k }.map(&:first) },
  reverse: ->(h) { h.reverse_merge(a: 0, q: 1).then { |m| [m[:a], m["q"]] } }, default: ->(h) { h[:missing].nil? }, group: ->(h) { h.group_by { |_, v| v.class == Integer }.keys }
}.freeze

def outcome(call, hash)
  call.call(hash)
rescue StandardError => e
  e.class
end

differing = CALLS.reject { |_, call| outcome(call, Taskerd::IndifferentHash.of(MAKE)) == outcome(call, ActiveSupport::HashWithIndifferentAccess.new(MAKE)) }
differing.each { |name, call| puts "#{name}: #{outcome(call, Taskerd::IndifferentHash.of(MAKE)).inspect} #{outcome(call, ActiveSupport::HashWithIndifferentAccess.new(MAKE)).inspect}" }
puts "#{CALLS.size - differing.size} are the same"

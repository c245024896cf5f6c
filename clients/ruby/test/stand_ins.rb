# frozen_string_literal: true

# What handlers take from ActiveSupport. test_package runs this with it and with this library's stand-ins, and compares.
require "taskerd"

at = Time.utc(2026, 3, 14, 15, 9, 26)
day = Date.new(2026, 3, 14)
owner = Struct.new(:name).new("ada")
delegating = Class.new do
  attr_reader :owner

  delegate :name, to: :owner
  delegate :size, to: :none, allow_nil: true, prefix: :the
  class_attribute :setting, default: 1
  mattr_accessor :shared, default: 2
  define_method(:initialize) { @owner = owner }
  def none = nil
end
below = Class.new(delegating) { self.setting = 5 }

FOUND = {
  blank: [nil, "", " \n", [], {}, false, 0, "a", [nil]].map { |v| [v.blank?, v.present?, v.presence] },
  in: [1.in?([1, 2]), "a".in?("cab")], try: [nil.try(:size), "abc".try(:size), "abc".try(:nothing), "ab".try { |s| s * 2 }],
  keys: [{ "a" => { "b" => [{ "c" => 1 }] } }.deep_symbolize_keys.inspect, { a: { b: 1 } }.deep_stringify_keys, { "a" => 1 }.symbolize_keys.inspect, { a: 1, 2 => 3 }.stringify_keys],
  bang: [{ "a" => 1 }.tap(&:symbolize_keys!).inspect, { a: 1 }.tap(&:stringify_keys!)], indifferent: [{ a: 1 }.with_indifferent_access["a"], { "a" => { "b" => 2 } }.with_indifferent_access[:a][:b]],
  merge: [{ a: { b: 1, c: 2 } }.deep_merge({ a: { b: 3 }, d: 4 }), { a: 1 }.reverse_merge(a: 2, b: 3), { a: nil, b: "", c: 1 }.compact_blank, { a: 1, b: 2 }.except(:a)],
  transform: { a: { b: 1 } }.deep_transform_keys { |k| k.to_s.upcase }, dup: [{ a: [1] }.deep_dup, [1, [2]].deep_dup],
  array: [[1, 2, 3].second, [1, 2, 3].third, [1, 2].to_sentence, %w[a b c].to_sentence, [1, 2, 3].in_groups_of(2), [1, 2, 3].in_groups_of(2, false), [1, 2, 3].excluding(2), [1, 2].without(1)],
  wrap: [Array.wrap(nil), Array.wrap(1), Array.wrap([1]), Array.wrap({ a: 1 })], from: [[1, 2, 3].from(1), [1, 2, 3].to(1), [1, { a: 1 }].extract_options!],
  enumerable: [%w[a bb].index_by(&:size), %w[a bb].index_with(&:size), [{ a: 1 }, { a: 2 }].pluck(:a), [1, 2].many?, [1].many?, [1].exclude?(2), [1, nil, ""].compact_blank],
  string: [" a  b\n".squish, "hello world".truncate(8), "FooBar::BazQux".underscore, "foo_bar/baz".camelize, "A::B".demodulize, "foo bar!".parameterize, "hello".exclude?("x"), "String".constantize.name,
           "Nope".safe_constantize, "abc".starts_with?("a"), "abc".ends_with?("c"), "abc".first(2), "abc".last(2), "abc".first, "a-b".remove("-"), "2026-03-14".to_date.to_s],
  titles: ["order_id".humanize, "order_item".titleize, "http_server".humanize], time: [at.beginning_of_day.iso8601, at.beginning_of_month.iso8601, at.beginning_of_hour.iso8601, (at + 5.minutes).iso8601, (at - 2.days).iso8601, at.past?],
  date: [(day + 5.days).to_s, (day - 1.week).to_s, day.end_of_month.to_s, day.beginning_of_month.to_s, (day + 1).to_s, day.past?],
  duration: [5.minutes.to_i, 2.hours.to_i, 1.day.to_i, 3.weeks.to_i, (1.day + 1.hour).to_i, (2.hours / 2).to_i, (2 * 3.minutes).to_i, 1.minute < 90, 90 > 1.minute, 5.minutes == 300, 1.5.hours.to_i, 90.minutes.in_hours],
  ago: [(Time.now - 2.hours.ago).round, (3.days.from_now - Time.now).round, 5.minutes.since(at).iso8601, 5.minutes.before(at).iso8601], sizes: [2.kilobytes, 3.megabytes],
  module: [delegating.new.name, delegating.new.the_size, delegating.setting, below.setting, below.new.setting, delegating.shared],
  json: [JSON.generate({ a: [1, nil] }), { a: 1 }.to_json, "x".to_json], decimal: "1.50".to_d.to_s("F"), current: [Time.current.respond_to?(:iso8601), Date.current.year > 2000, Date.tomorrow > Date.yesterday]
}.freeze

FOUND.each { |name, value| puts "#{name}: #{value.inspect}" }

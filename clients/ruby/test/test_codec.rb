# frozen_string_literal: true

require_relative "support"
require "bigdecimal"
require "set"
require "ostruct"
require "pathname"
require "uri"

# Bytes and values: the golden vectors, framing in any cut, and what user values become.
class TestCodec < Minitest::Test
  include Taskerd

  V = Support::Vectors
  # Well-formed for a reader that trusts the daemon: this side need not refuse these.
  TOLERATED = ["duplicate map key", "nested too deeply", "too many items"].freeze

  def reader(limit = Codec::HELLO_MAX_FRAME)
    Codec::FrameReader.new(limit)
  end

  def test_frames
    V.load("frames").each do |v|
      found = reader(v["limit"])
      values = []
      V.bytes(v["hex"]).each_char do |byte|
        found.feed(byte)
        found.each_value { |value| values << value }
      end
      assert V.same?(values, V.meaning(v["meaning"]["frames"])), v["name"]
      assert_equal v["meaning"]["left"], found.left, v["name"]
    end
  end

  def test_values
    V.load("values").each do |v|
      data = V.bytes(v["hex"])
      value = V.meaning(v["meaning"])
      assert V.same?(reader.decode(data), value), v["name"]
      assert_equal data, Codec.pack(value).b, v["name"] if v.fetch("canonical", true)
    end
  end

  def test_values_outside_the_json_model_are_refused_before_they_are_sent
    refused = V.load("values").count do |v|
      value = V.meaning(v["meaning"])
      next false if v["name"].start_with?("depth")

      if v.key?("refused") && v["refused"]["what"] != "bin value" # text of Ruby's without an encoding is still text
        error = assert_raises(Errors::ConversionError, v["name"]) { Codec::Plain.of(value, "value") }
        assert_equal v["refused"]["path"], error.path
      elsif !v.key?("refused")
        assert Codec::Plain.plain?(value), v["name"]
        assert V.same?(Codec::Plain.convert(value, "", 24), value), v["name"]
      end
      v.key?("refused")
    end
    assert_operator refused, :>, 5
  end

  def test_hostile
    V.load("hostile").each do |v|
      next unless %w[frame scan envelope].include?(v["refused_by"])

      data = V.bytes(v["hex"])
      found = reader(v.dig("limits", "max_payload") || 65_536)
      if v["refused_by"] != "frame"
        next if data.empty? || TOLERATED.include?(v["why"])

        data = Codec.frame(data)
      end
      assert_raises(Client::ProtocolError, v["name"]) do
        found.feed(data)
        found.take
      end
    end
  end

  def test_a_header_that_claims_more_than_there_is_memory
    ["\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff"].each do |bytes|
      assert_raises(Client::ProtocolError) { reader.decode(bytes.b) }
    end
    assert_equal [1], reader.decode("\x91\x01".b)
  end

  def test_what_user_values_become
    point = Struct.new(:x, :y)
    {
      { a: :b } => { "a" => "b" }, { 1 => 2, nil => 3, true => 4 } => { "1" => 2, "null" => 3, "true" => 4 },
      Time.utc(2026, 1, 2, 3, 4, 5) => "2026-01-02T03:04:05.000000+00:00", Date.new(2026, 1, 2) => "2026-01-02",
      BigDecimal("1.10") => "1.1", Rational(1, 2) => 0.5, point.new(1, [2]) => { "x" => 1, "y" => [2] }, OpenStruct.new(a: 1) => { "a" => 1 },
      Set.new([1, 2]) => [1, 2], (1..3) => "1..3", Pathname.new("/a") => "/a", URI("http://a/b") => "http://a/b", String => "String",
      "gr\u00fc\u00df".encode("ISO-8859-1") => "gr\u00fc\u00df", "abc".b => "abc", { "a" => { b: [:c] } } => { "a" => { "b" => ["c"] } }
    }.each { |value, wanted| assert_equal wanted, Codec::Plain.of(value, "", 24).then { |v| reader.decode(Codec.pack(v)) }, value.inspect }
  end

  def test_what_cannot_be_stored_is_named_with_its_place
    cycle = {}
    cycle[:again] = [cycle]
    {
      { a: [1, Float::NAN] } => "result.a[1]: NaN", { a: { b: Object.new } } => "result.a.b: a value of class Object", cycle => "nested too deeply",
      { a: 1 << 64 } => "result.a: integer", { a: "x\0" } => "result.a: U+0000", { :a => 1, "a" => 2 } => "occurs twice", { a: "\xff" } => "result.a: text",
      { [1] => 2 } => "map key of class Array", { a: [1, 2].each } => "Enumerator", { "a\0": 1 } => "U+0000", { a: -Float::INFINITY } => "NaN and"
    }.each do |value, wanted|
      refute Codec::Plain.plain?(value), wanted
      error = assert_raises(Errors::ConversionError) { Codec::Plain.of(value, "result") }
      assert_includes error.message, wanted
    end
  end

  def test_the_limits_of_a_frame_count_items_only_where_the_size_does_not_tell
    value = { "a" => [1, 2, { "b" => nil }] }
    assert_equal 8, Codec.count_items(value)
    packed = Codec.pack(value)
    assert Codec.fits?(packed, value, 100, 8)
    refute Codec.fits?(packed, value, 100, 7)
    refute Codec.fits?(packed, value, packed.bytesize - 1, 100)
  end

  def test_array_headers
    [0, 15, 16, 65_535, 65_536].each { |n| assert_equal Codec.pack([nil] * n)[0, Codec.array_header(n).bytesize].b, Codec.array_header(n).b }
  end
end

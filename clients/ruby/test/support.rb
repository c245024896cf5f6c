# frozen_string_literal: true

# A daemon made of a few lines, for tests to script, and small helpers.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))

require "minitest/autorun"
require "tmpdir"
require "fileutils"
require "rbconfig"
ENV["TASKERD_ACTIVE_SUPPORT"] ||= "off" # what handlers find without it; test_package runs some of the tests with it
ENV["TASKERD_FARADAY"] ||= "off"
require "taskerd"

Thread.report_on_exception = true
Taskerd::Logger.instance.level = ENV["TASKERD_TEST_LOG"] || "fatal"

module Support
  ROOT = File.expand_path("../../..", __dir__)
  LIB = File.expand_path("../lib", __dir__)
  EXE = File.expand_path("../exe/taskerd", __dir__)
  # No test waits for time to pass; this only bounds how long a broken one hangs.
  PATIENCE = Float(ENV["TASKERD_TEST_PATIENCE"] || 300)
  LIMITS = { "max_frame" => 4_194_304, "max_items" => 262_144, "max_depth" => 30, "max_bulk" => 1000, "max_context" => 1_048_576,
             "max_result" => 1_048_576 }.freeze

  module_function

  # The result of a hello.
  def welcome(changes = {})
    { "protocol" => [1, 0], "server" => "taskerd/0.1.0", "node" => "test-node", "session" => "token-1", "resumed" => false,
      "worker_uuid" => "0190b5a0-7c1e-7000-8000-00000000c001", "heartbeat_ms" => 60_000, "limits" => LIMITS, "features" => [], **changes }
  end

  # A step of step.execute.
  def step(name, number = 1, changes = {})
    { "step_uuid" => format("00000000-0000-0000-0000-%012d", number), "task_uuid" => "00000000-0000-0000-0000-000000001000", "attempt" => 1,
      "max_attempts" => 3, "retryable" => true, "claim" => [0, number].pack("Q>Q>"), "namespace" => "default", "template" => "t",
      "version" => "1.0.0", "step" => "s#{number}", "handler" => { "callable" => name }, "context" => {}, "dependencies" => {},
      "dependencies_partial" => false, "priority" => 0, "correlation_id" => "00000000-0000-0000-0000-000000001000", **changes }
  end

  # The acknowledgement of a result.
  def ack(result, status = "recorded", more = {})
    { "step_uuid" => result["step_uuid"], "attempt" => result["attempt"], "status" => status, **more }
  end

  # Wait until the block gives something true.
  def eventually(what = "it")
    deadline = Taskerd::Transport.now + PATIENCE
    until (found = yield)
      raise "#{what} did not happen" if Taskerd::Transport.now > deadline

      sleep 0.002
    end
    found
  end

  # The daemon's end of one connection.
  class Conn
    attr_reader :socket, :frames

    def initialize(socket)
      @socket = socket
      @frames = []
      @unpacker = MessagePack::Factory.new
    end

    # The next frame's payload, nil at the end of the stream.
    def recv_raw
      head = exactly(4)
      head && exactly(head.unpack1("N"))
    end

    # The next envelope but heartbeats, nil at the end of the stream.
    def recv
      deadline = Taskerd::Transport.now + PATIENCE
      while (payload = recv_raw)
        raise "nothing but heartbeats" if Taskerd::Transport.now > deadline

        envelope = MessagePack.unpack(payload)
        @frames << envelope
        return envelope unless envelope[0..1] == [2, "heartbeat"]
      end
    end

    def send(*envelopes)
      @socket.write(envelopes.map { |e| [MessagePack.pack(e)].map { |p| [p.bytesize].pack("N") + p }.first }.join)
    end

    def write(bytes)
      @socket.write(bytes)
    end

    # The params of the next message, which must be of that method; for a request [id, params].
    def expect(method)
      envelope = recv or raise "end of stream instead of #{method}"
      request = envelope[0].zero?
      raise "#{envelope.inspect} instead of #{method}" unless envelope[request ? 2 : 1] == method

      request ? [envelope[1], envelope[3]] : envelope[2]
    end

    def expect_end
      found = recv
      raise "#{found.inspect} instead of the end of the stream" if found
    end

    # Answer the handshake; the params of hello. `more` follows the welcome at once.
    def hello(*more, **changes)
      id, params = expect("hello")
      send([1, id, nil, Support.welcome(changes.transform_keys(&:to_s))], *more)
      params
    end

    def answer(id, result)
      send([1, id, nil, result])
    end

    def refuse(id, code, more = {})
      send([1, id, { "code" => code, "message" => "refused: #{code}", **more }, nil])
    end

    def execute(*steps)
      send([2, "step.execute", { "steps" => steps }])
    end

    def acknowledge(*results, status: "recorded")
      send([2, "result.ack", { "acks" => results.map { |r| Support.ack(r, status) } }])
    end

    # The next `count` results.
    def results(count = 1)
      found = []
      found.concat(expect("step.result")["results"]) while found.size < count
      found
    end

    def close
      @socket.close
    end

    private

    def exactly(count)
      data = String.new(encoding: Encoding::BINARY)
      while data.bytesize < count
        raise "nothing came within #{PATIENCE} s" unless @socket.wait_readable(PATIENCE)

        part = @socket.read_nonblock(count - data.bytesize, exception: false)
        next if part == :wait_readable
        return nil if part.nil?

        data << part
      end
      data
    rescue Errno::ECONNRESET
      nil
    end
  end

  # A test with a socket that it plays the daemon at.
  class Case < Minitest::Test
    include Support

    def setup
      @dir = Dir.mktmpdir("taskerd-ruby-")
      @path = File.join(@dir, "s")
      @server = UNIXServer.new(@path)
      @opened = []
      @workers = []
      @registry = Taskerd::Registry::HandlerRegistry.new
    end

    def teardown
      @opened.each { |conn| conn.close unless conn.socket.closed? }
      @server.close unless @server.closed?
      @workers.each do |worker|
        worker.instance_variable_get(:@runtime)&.abort
        worker.wait(PATIENCE)
      end
      FileUtils.rm_rf(@dir)
    end

    def accept
      raise "nobody connected" unless @server.wait_readable(PATIENCE)

      conn = Conn.new(@server.accept)
      @opened << conn
      conn
    end

    # A worker and the daemon's end of its connection, after the handshake.
    def worker(handlers = {}, hello: {}, **options)
      handlers.each { |name, handler| @registry.register(name, handler) }
      found = Taskerd::Worker.new(@registry, socket: @path, name: "test", **{ threads: 2, connect_timeout: PATIENCE, log_level: nil, **options })
      @workers << found
      launched = Thread.new { found.launch }
      launched.report_on_exception = false
      conn = accept
      @hello = conn.hello(**hello)
      launched.join
      [found, conn]
    end

    # A handler made of a block.
    def handler(&block)
      Class.new(Taskerd::StepHandler::Base) { define_method(:call, &block) }
    end
  end

  # Vectors of the protocol, and their meaning in Ruby.
  module Vectors
    module_function

    def load(name)
      JSON.parse(File.read(File.join(ROOT, "protocol", "vectors", "#{name}.json"), encoding: "UTF-8"))
    end

    def bytes(hex)
      [hex].pack("H*")
    end

    def meaning(value)
      case value
      when Array then value.map { |v| meaning(v) }
      when Hash then special(value) { value.transform_values { |v| meaning(v) } }
      else value
      end
    end

    def special(value)
      key, inner = value.size == 1 ? value.first : nil
      case key
      when "$bin" then bytes(inner)
      when "$int" then Integer(inner)
      when "$float" then { "nan" => Float::NAN, "inf" => Float::INFINITY, "-inf" => -Float::INFINITY }.fetch(inner) { Float(inner) }
      else yield
      end
    end

    # Equality that tells 1 from 1.0 and 0.0 from -0.0, and finds NaN equal to itself.
    def same?(a, b)
      return false unless a.class == b.class

      case a
      when Hash then a.keys == b.keys && a.all? { |k, v| same?(v, b[k]) }
      when Array then a.size == b.size && a.zip(b).all? { |x, y| same?(x, y) }
      when Float then (a.nan? && b.nan?) || (a == b && 1 / a == 1 / b)
      else a == b
      end
    end
  end
end

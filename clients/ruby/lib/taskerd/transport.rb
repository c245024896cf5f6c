# frozen_string_literal: true

require "socket"
require "io/wait"
require_relative "version"
require_relative "codec"

module Taskerd
  # Finding the daemon, connecting, and the handshake.
  module Transport
    SYSTEM_SOCKET = "/run/taskerd/taskerd.sock"
    HELLO_TIMEOUT = 10.0
    # Until the welcome says otherwise.
    WELCOME_MAX_FRAME = 1 << 26

    # The daemon's answer to `hello`.
    Welcome = Struct.new(:session, :resumed, :server, :node, :worker_uuid, :heartbeat_ms, :limits, :features, keyword_init: true) do
      # Read the answer; UnsupportedVersionError if it is in another major version.
      def self.from_wire(result)
        version = result["protocol"]
        unless version.is_a?(Array) && version[0] == PROTOCOL_VERSION[0]
          raise Client::UnsupportedVersionError.new(
            "the daemon speaks protocol #{version.inspect}, this library #{PROTOCOL_VERSION.inspect}",
            details: { "client" => PROTOCOL_VERSION, "server" => version }
          )
        end
        limits = Transport.map(result["limits"])
        new(session: result["session"].to_s, resumed: result["resumed"] == true, server: result["server"].to_s, node: result["node"].to_s,
            worker_uuid: result["worker_uuid"].to_s, heartbeat_ms: Transport.positive(result["heartbeat_ms"], 10_000),
            limits: Codec::DEFAULT_LIMITS.to_h { |k, d| [k, Transport.positive(limits[k], d)] }, features: Array(result["features"]))
      end
    end

    # Waits between attempts to connect: full jitter below a bound that doubles from 0.1 s to `cap`. A restarted daemon keeps steps for its
    # workers for ten seconds, which they must not sleep away.
    class Backoff
      def initialize(base = 0.1, cap = 2.0)
        @base = base
        @cap = cap
        @bound = base
      end

      # @return [Float] seconds to wait now
      def next(at_least = nil)
        delay = rand * @bound
        @bound = [@cap, @bound * 2].min
        [delay, at_least || 0.0].max
      end

      # Start again from the base, after a connection that was good.
      def reset
        @bound = @base
      end
    end

    # Says at once that something is wrong, and while it stays so once a minute.
    class Complaints
      def initialize(every = 60.0)
        @every = every
        @last = nil
      end

      # @return [Boolean] true if it is time to say it (again)
      def due?
        now = Transport.now
        return false if @last && now - @last < @every

        @last = now
        true
      end

      # It is no longer wrong.
      def over
        @last = nil
      end
    end

    # An open connection after the handshake; `rest` are the envelopes that came right behind the welcome.
    Opened = Struct.new(:socket, :reader, :welcome, :rest)

    class << self
      # Seconds on a clock that never jumps.
      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end

      # @return [Hash] the value, or an empty one
      def map(value)
        value.is_a?(Hash) ? value : {}
      end

      # @return [Integer] a positive number, or the default
      def positive(value, default)
        value.is_a?(Integer) && value.positive? ? value : default
      end

      # Where the daemon listens: the argument, $TASKERD_SOCKET, the user's runtime directory, the system's.
      def socket_path(explicit = nil)
        named = [explicit && explicit.to_s, ENV["TASKERD_SOCKET"]].find { |p| p && !p.empty? }
        return named if named

        runtime = ENV["XDG_RUNTIME_DIR"]
        own = runtime && !runtime.empty? ? File.join(runtime, "taskerd", "taskerd.sock") : nil
        own && File.exist?(own) ? own : SYSTEM_SOCKET
      end

      # Connect and shake hands, blocking. ConnectionLostError if the daemon cannot be reached or hangs up, and the
      # daemon's own error if it refuses.
      # @return [Opened]
      def open(path, worker: nil, resume: nil)
        hello = hello_frame(worker, resume)
        socket = UNIXSocket.new(path)
        Sockets.add(socket)
        socket.write(hello)
        opened = await_welcome(socket)
        opened.reader.max_payload = opened.welcome.limits["max_frame"]
        keep = true
        opened
      rescue SystemCallError, IOError, ArgumentError => e # the last: a path longer than a socket's may be
        raise Client::ConnectionLostError, "cannot reach taskerd at #{path}: #{why_not(path, e)}"
      ensure
        socket&.close unless keep
      end

      # What to tell people about a failed connect; where the socket may not be used, who may.
      def why_not(path, error)
        return "no socket is there: taskerd is not running, or listens elsewhere" if error.is_a?(Errno::ENOENT)
        return "nobody listens any more: taskerd has stopped" if error.is_a?(Errno::ECONNREFUSED)
        return error.message unless error.is_a?(Errno::EACCES) || error.is_a?(Errno::EPERM)

        require "etc"
        found, place = closed_place(path)
        return error.message unless found

        user = name_of(:getpwuid, found.uid)
        "permission denied: #{place} is for user #{user} and group #{name_of(:getgrgid, found.gid)}, " \
          "this process is user #{name_of(:getpwuid, Process.euid)}"
      end

      private

      def hello_frame(worker, resume)
        params = { "protocol" => PROTOCOL_VERSION, "client" => CLIENT_NAME, "language" => "ruby", "pid" => Process.pid }
        params["worker"] = worker if worker
        params["resume"] = resume if resume
        message = [Codec::REQUEST, 0, "hello", params]
        payload = Codec.pack_checked(message)
        items = Codec.count_items(message)
        if payload.bytesize > Codec::HELLO_MAX_FRAME || items > Codec::HELLO_MAX_ITEMS
          raise Client::TooLargeError, "the handshake takes #{payload.bytesize} bytes and #{items} values, #{Codec::HELLO_MAX_FRAME} and " \
                                       "#{Codec::HELLO_MAX_ITEMS} are allowed: offer fewer handlers in one process"
        end
        Codec.frame(payload)
      end

      def await_welcome(socket)
        reader = Codec::FrameReader.new(WELCOME_MAX_FRAME)
        deadline = now + HELLO_TIMEOUT
        loop do
          left = deadline - now
          raise Client::ConnectionLostError, "taskerd did not answer the handshake" if left <= 0 || !socket.wait_readable(left)

          got = reader.fill(socket)
          raise Client::ConnectionLostError, "taskerd closed the connection during the handshake" if got.nil?

          envelopes = reader.take
          envelopes.each_with_index do |envelope, i|
            welcome = welcome_of(envelope)
            return Opened.new(socket, reader, welcome, envelopes[(i + 1)..]) if welcome
          end
        end
      end

      # The welcome in an envelope, nil for a message that is not the answer; raises what was refused.
      def welcome_of(envelope)
        if envelope[0] != Codec::RESPONSE
          raise DaemonError.from_wire(envelope[2]) if envelope[1] == "error"

          return nil
        end
        raise Client::ProtocolError, "answer to a request that was not sent" if envelope[1] != 0
        raise DaemonError.from_wire(envelope[2]) if envelope[2]
        raise Client::ProtocolError, "the answer to hello is no map" unless envelope[3].is_a?(Hash)

        Welcome.from_wire(envelope[3])
      end

      # The socket, or the directory above it that is closed.
      def closed_place(path)
        loop do
          return [File.stat(path), path]
        rescue Errno::EACCES
          path = File.dirname(path)
        rescue SystemCallError
          return nil
        end
      end

      def name_of(find, number)
        Etc.public_send(find, number)&.name || number.to_s
      rescue ArgumentError
        number.to_s
      end
    end

    # A child made by fork holds a copy of each descriptor; with it open the kernel would not tell the daemon that this
    # process died. So they are closed in the child.
    module Sockets
      @open = ObjectSpace::WeakMap.new

      class << self
        def add(socket)
          @open[socket] = Process.pid
        end

        def close_inherited
          @open.each_pair do |socket, pid|
            socket.close if pid != Process.pid && !socket.closed?
          end
        rescue IOError
          nil
        end
      end

      # Hooks into Process.
      module Fork
        def _fork
          pid = super
          Sockets.close_inherited if pid.zero?
          pid
        end
      end
      Process.singleton_class.prepend(Fork)
    end
  end

  # @return [String] where the daemon listens: the argument, $TASKERD_SOCKET, the user's runtime directory, the system's
  def self.socket_path(explicit = nil)
    Transport.socket_path(explicit)
  end
end

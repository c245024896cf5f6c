# frozen_string_literal: true

module Taskerd
  # The step that a thread runs, for what is written while it runs.
  # @api private
  module CurrentStep
    class << self
      # @return [Types::StepContext, nil]
      def get
        Thread.current.thread_variable_get(:taskerd_step)
      end

      def set(context)
        Thread.current.thread_variable_set(:taskerd_step, context)
      end
    end
  end

  # Lines that handlers log also go to the daemon's log, with the ids of the step that wrote them.
  module LogBridge
    LEVELS = %w[trace debug info warn error].freeze
    MAX_MESSAGE = 8192

    @level = nil

    class << self
      # @return [String, nil] lines from this level on go to the daemon, nil: none
      attr_reader :level

      def level=(name)
        raise ArgumentError, "the level must be one of #{LEVELS.join(", ")}" unless name.nil? || LEVELS.include?(name)

        @level = name
        @rank = name && LEVELS.index(name)
      end

      # Send a line on if a step wrote it.
      def emit(level, message, fields = nil)
        return if @rank.nil? || LEVELS.index(level) < @rank

        context = CurrentStep.get
        return if context.nil?

        context.log(level, text(message), **(fields || {}).to_h { |k, v| [k.to_s.to_sym, text(v)] })
      rescue StandardError => e
        warn "taskerd: a line of the log was lost: #{e.class}"
      end

      # Have the lines of another logger sent on too: one of Ruby's standard library, or of Rails.
      def attach(logger)
        logger.extend(Attached) unless logger.is_a?(Attached)
        logger
      end

      def text(value)
        mended(value)[0, MAX_MESSAGE].tr("\0", "?")
      end

      # Whatever it is made of, as UTF-8.
      def mended(value)
        text = value.to_s
        text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace) unless text.encoding == Encoding::UTF_8
        text.scrub("?")
      end
    end

    # A logger whose lines go to the daemon too.
    module Attached
      NAMES = { 0 => "debug", 1 => "info", 2 => "warn", 3 => "error", 4 => "error", 5 => "info" }.freeze

      def add(severity, message = nil, progname = nil)
        severity ||= 5
        if message.nil?
          message = block_given? ? yield : progname
          progname = nil unless block_given?
        end
        LogBridge.emit(NAMES.fetch(severity, "info"), message) if severity >= level
        super(severity, message, progname)
      end
      alias log add
    end
  end

  # The logger of handlers: writes to standard error, and what a step writes also to the daemon.
  class Logger
    RANKS = { "trace" => -1, "debug" => 0, "info" => 1, "warn" => 2, "error" => 3, "fatal" => 4 }.freeze

    @lock = Mutex.new

    class << self
      # @return [Logger] the one of the process
      def instance
        @lock.synchronize { @instance ||= new }
      end

      # Use another logger: anything with `info`, `warn` and so on.
      attr_writer :instance

      RANKS.each_key { |name| define_method(name) { |*args, **fields, &block| instance.public_send(name, *args, **fields, &block) } }
    end

    # @return [String] lines below it are left out on standard error
    attr_reader :level

    # @param out [IO]
    # @param level [String, Symbol]
    def initialize(out = $stderr, level: ENV["LOG_LEVEL"] || "info", **_ignored)
      @out = out
      self.level = RANKS.key?(level.to_s.downcase) ? level : "info"
    end

    def level=(name)
      name = RANKS.key(name) if name.is_a?(Integer)
      @level = name.to_s.downcase
      @rank = RANKS.fetch(@level)
    end

    # @!method info(message, fields)
    RANKS.each do |name, rank|
      shown = name == "fatal" ? "error" : name
      define_method(name) do |message = nil, fields = nil, **more, &block|
        message = block.call if message.nil? && block
        write(name, shown, rank, message, fields.is_a?(Hash) ? fields.merge(more) : more)
      end
      define_method("#{name}?") { @rank <= rank }
    end
    alias warning warn

    # Lines about one part of the system.
    %i[task queue_worker orchestrator step database ffi config registry handler event worker].each do |part|
      define_method("log_#{part}") do |level, operation = nil, **data, &block|
        message = ["[#{part.name.upcase}]", operation, (block.call if block)].compact.join(" ")
        write(level.to_s, level.to_s == "fatal" ? "error" : level.to_s, RANKS.fetch(level.to_s, 1), message, data)
      end
    end

    def add(severity, message = nil, progname = nil, &block)
      public_send(RANKS.key(severity || 1) || "info", message || (block ? block.call : progname))
    end

    def <<(message)
      info(message.to_s.chomp)
    end

    def close; end

    private

    def write(name, bridged, rank, message, fields)
      LogBridge.emit(bridged, message, fields) unless LogBridge.level.nil?
      return true if rank < @rank

      message = LogBridge.mended(message)
      tail = fields.empty? ? "" : " #{fields.map { |k, v| "#{k}=#{LogBridge.mended(v)}" }.join(" ")}"
      now = Time.at(Process.clock_gettime(Process::CLOCK_REALTIME)) # a handler may have replaced Time.now
      @out.write("#{now.strftime("%Y-%m-%d %H:%M:%S.%L")} #{name.upcase} #{Thread.current.name || "main"}: #{message}#{tail}\n")
      true
    rescue IOError, SystemCallError # nobody reads it any more
      false
    end
  end

  # Lines with fields.
  module Tracing
    class << self
      Logger::RANKS.each_key do |name|
        define_method(name) do |message, fields = {}|
          Logger.instance.public_send(name, message, fields.to_h { |k, v| [k, v.to_s] })
        end
      end
    end
  end
end

# frozen_string_literal: true

require_relative "../taskerd"

module Taskerd
  # The command line: `taskerd worker` and `taskerd replay`.
  class CLI
    # What is wrong with a command line.
    class Usage < StandardError; end

    TOP = <<~TEXT
      usage: taskerd COMMAND ...

      Ruby client of taskerd.

        worker [PLACE ...]         run the handlers of some files
        replay STEP [PLACE ...]    run a recorded step again, in the foreground, recording nothing
        --version

      `taskerd COMMAND --help` tells more.
    TEXT

    WORKER = <<~TEXT
      usage: taskerd worker [options] [PLACE ...]

      Load files of handlers, offer the handlers in them to taskerd, and run its steps until SIGTERM or SIGINT. The first signal lets
      running steps finish, a second ends at once.

      PLACE: a file, a directory (every .rb file below it is loaded) or a feature (default: $RUBY_HANDLER_PATH)

        --socket PATH            the daemon's socket (default: $TASKERD_SOCKET, ...)
        --threads N              handlers that run at a time (10)
        --prefetch N             steps held ready beyond those (as many as threads)
        --processes N            worker processes, for handlers that compute; one that crashes costs only its own attempts (1)
        --abandon-after SECONDS  end the thread of a handler that does not return so long after its step was cancelled (30)
        --name NAME              name shown in lists of workers (host and process id)
        --namespace NAME         serve this namespace; may be repeated (default: $TASKER_NAMESPACE, or all)
        --templates DIR          register the templates below this directory at the start (default: $TASKER_TEMPLATE_PATH)
        --require FEATURE, -r    require this first, such as ./config/environment
        --log-level LEVEL        trace, debug, info, warn or error: what is shown here (info)
        --daemon-log-level LEVEL what handlers log from this level on goes to the daemon's log too, or off (info)
    TEXT

    REPLAY = <<~TEXT
      usage: taskerd replay [options] STEP [PLACE ...]

      Run the handler of a recorded step again with the context, results and checkpoint that the daemon has, and print its result beside
      the recorded one. Nothing is recorded.

      STEP: uuid of a step, or of a task if --step names the step
      PLACE: files with the handler (default: $RUBY_HANDLER_PATH)

        --step NAME              name of the step in the task
        --debug                  start in Ruby's debugger (the gem `debug`)
        --socket PATH            the daemon's socket (default: $TASKERD_SOCKET, ...)
        --require FEATURE, -r    require this first
        --log-level LEVEL        trace, debug, info, warn or error (info)
    TEXT

    # Option: how its value is read. A name that ends in ! takes none.
    OPTIONS = {
      "worker" => {
        "--socket" => :text, "--threads" => :positive, "--prefetch" => :natural, "--processes" => :positive, "--abandon-after" => :seconds,
        "--name" => :text, "--namespace" => :list, "--templates" => :text, "--require" => :list, "--log-level" => :level,
        "--daemon-log-level" => :level_or_off
      },
      "replay" => { "--step" => :text, "--debug" => :flag, "--socket" => :text, "--require" => :list, "--log-level" => :level }
    }.freeze
    SHORT = { "-r" => "--require" }.freeze

    # @return [Integer] the exit status
    def self.run(arguments)
      new(arguments).run
    end

    def initialize(arguments)
      @arguments = arguments
    end

    # @return [Integer] the exit status
    def run
      command, *rest = @arguments
      case command
      when "worker" then worker(rest)
      when "replay" then replay(rest)
      when "--version" then say("taskerd-ruby #{VERSION}")
      when "--help", "-h", "help" then say(TOP)
      else
        warn TOP
        2
      end
    rescue Usage => e
      warn "taskerd #{@arguments.first}: #{e.message}"
      2
    end

    private

    def say(text)
      puts text
      0
    end

    # @return [Array(Hash, Array)] options and places
    def parse(command, arguments)
      found = {}
      places = []
      rest = arguments.dup
      until rest.empty?
        word = rest.shift
        next places << word if !word.start_with?("-") || word == "-"

        name, glued = word.split("=", 2)
        name = SHORT.fetch(name, name)
        kind = OPTIONS.fetch(command)[name] || raise(Usage, "there is no option #{name}; see --help")
        value = kind == :flag ? true : glued || rest.shift || raise(Usage, "#{name} needs a value")
        key = name.delete_prefix("--").tr("-", "_").to_sym
        value = read(kind, name, value)
        kind == :list ? (found[key] ||= []) << value : found[key] = value
      end
      [found, places]
    end

    def read(kind, name, value)
      case kind
      when :positive then number(name, value, 1)
      when :natural then number(name, value, 0)
      when :seconds then Float(value, exception: false) || raise(Usage, "#{name} needs a number of seconds, not #{value}")
      when :level, :level_or_off
        return value if LogBridge::LEVELS.include?(value) || (kind == :level_or_off && value == "off")

        raise Usage, "#{name} must be one of #{LogBridge::LEVELS.join(", ")}#{", off" if kind == :level_or_off}"
      else value
      end
    end

    def number(name, value, least)
      found = Integer(value, exception: false)
      found && found >= least ? found : raise(Usage, "#{name} needs a number of at least #{least}, not #{value}")
    end

    def prepare(options)
      Taskerd::Logger.instance.level = options.fetch(:log_level, "info")
      Array(options[:require]).each { |feature| require File.file?(feature) || File.file?("#{feature}.rb") ? File.expand_path(feature) : feature }
    end

    def default_places(places)
      places.empty? ? ENV.fetch("RUBY_HANDLER_PATH", "").split(":").reject(&:empty?) : places
    end

    # -- worker ----------------------------------------------------------------------------------

    def worker(arguments)
      return say(WORKER) if arguments.include?("--help") || arguments.include?("-h")

      options, places = parse("worker", arguments)
      places = default_places(places)
      raise Usage, "name at least one PLACE, or set RUBY_HANDLER_PATH" if places.empty? && options[:require].nil?

      lifeline = ENV.key?(Worker::Lifeline::VARIABLE) ? Worker::Lifeline.from_environment : nil
      return supervise(options, arguments) if options.fetch(:processes, 1) > 1 && lifeline.nil?

      lifeline&.watch { ::Process.kill("TERM", ::Process.pid) }
      run_worker(options, places, lifeline)
    rescue Errors::Error, LoadError, SystemCallError => e
      Taskerd::Logger.instance.error("cannot start: #{e.message}")
      1
    end

    def supervise(options, arguments)
      kept = []
      rest = arguments.dup
      until rest.empty?
        word = rest.shift
        next rest.shift if %w[--processes --name].include?(word)

        kept << word unless word.start_with?("--processes=", "--name=")
      end
      command = [RbConfig.ruby, *("--disable-gems" unless defined?(::Gem)), "-I", File.expand_path("..", __dir__), File.expand_path("../../exe/taskerd", __dir__), "worker", *kept]
      Worker::Supervisor.new(command, options[:processes], options[:name] || Worker.default_name).run
    end

    def run_worker(options, places, lifeline)
      prepare(options)
      registry = Registry::HandlerRegistry.instance
      service = Worker.new(registry, **settings(options)) # what the environment says is read before handler files may change it
      places.each { |place| Taskerd::Logger.instance.info("#{place}: #{registry.discover_handlers(place)} handlers") }
      register_required(registry) if options[:require]
      DomainEvents.start(service.socket, service.namespaces) unless Taskerd.autoload?(:DomainEvents)
      service.on_connected = -> { lifeline.ready } if lifeline
      service.supervised = true if lifeline
      # Compiled code is faster; Ruby before 3.3 can only be told by its own options.
      RubyVM::YJIT.enable if defined?(RubyVM::YJIT) && RubyVM::YJIT.respond_to?(:enable)
      service.run
    end

    # An application that was required has handlers of its own.
    def register_required(registry)
      Loading.handlers_in(StepHandler::Base.known).each { |klass| registry.register_class(klass) }
    end

    def settings(options)
      level = options.fetch(:daemon_log_level, "info")
      named = Types.presence(ENV["TASKER_NAMESPACE"])
      { **options.slice(:socket, :threads, :prefetch, :name, :templates, :abandon_after),
        namespaces: options[:namespace] || (named && [named]), log_level: level == "off" ? nil : level }
    end

    # -- replay ----------------------------------------------------------------------------------

    def replay(arguments)
      return say(REPLAY) if arguments.include?("--help") || arguments.include?("-h")

      options, (uuid, *places) = parse("replay", arguments)
      raise Usage, "name a STEP" if uuid.nil?

      require_relative "replay"
      prepare(options)
      socket = Taskerd.socket_path(options[:socket])
      registry = Registry::HandlerRegistry.instance
      default_places(places).each { |place| registry.discover_handlers(place) }
      Client.new(socket: socket, connect_timeout: 5.0) do |client|
        Replay.run(Replay::Recording.fetch(client, uuid, options[:step]), registry, client, debug: options[:debug])
      end
    rescue Errors::Error, LoadError, SystemCallError => e
      warn "cannot replay: #{e.message}"
      1
    end
  end
end

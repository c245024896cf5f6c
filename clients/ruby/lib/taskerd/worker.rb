# frozen_string_literal: true

require_relative "worker/service"

module Taskerd
  # Running steps.
  module Worker
    autoload :Templates, File.expand_path("worker/templates", __dir__)
    autoload :Bootstrap, File.expand_path("worker/bootstrap", __dir__)
    autoload :Supervisor, File.expand_path("worker/processes", __dir__)
    autoload :Lifeline, File.expand_path("worker/processes", __dir__)

    class << self
      # Called around each attempt with the context and a block that runs it; for what an application needs around its code.
      # @return [Proc, nil]
      attr_accessor :around_step

      # @return [Service] a worker that is not started; see {Service#initialize}
      def new(...)
        Service.new(...)
      end

      # Start a worker in the background.
      #
      # @param places [Array<String>] files, directories or features whose handlers are loaded first
      # @param options see {Service#initialize}; `connect_timeout` is 30 s unless given
      # @return [Service] running; with a block it is stopped when the block ends
      def start(*places, registry: nil, **options)
        service = Service.new(registry, connect_timeout: 30.0, **options)
        places.flatten.each { |place| service.registry.discover_handlers(place) }
        service.launch
        return service unless block_given?

        begin
          yield service
        ensure
          service.stop
        end
      end

      # @return [String] what people see in lists of workers
      def default_name
        Types.presence(ENV["HOSTNAME"]) || "#{::Socket.gethostname}-#{::Process.pid}"
      end
    end
  end
end

# frozen_string_literal: true

require_relative "transport"

module Taskerd
  # Create tasks, follow them, look around. The functions are those of {Connection} and use a connection of the process, made on
  # first use.
  module Client
    %i[Connection Calls Channel Bulk Events Watch].each { |name| autoload name, File.expand_path("client/#{name.to_s.downcase}", __dir__) }

    FUNCTIONS = %i[
      connect request create_task create_tasks get_task list_tasks each_task list_task_steps get_step get_task_history get_step_audit_history
      wait wait_for_task watch cancel_task apply_template validate_template list_templates get_template health_check server_info list_workers
      list_nodes list_queues doctor ping publish_event consume_events ack_events extend_events list_event_queues subscribe_events
    ].freeze

    @lock = Mutex.new

    class << self
      # @return [Connection] a connection of one's own; with a block it is closed when the block ends
      def new(**options)
        client = Connection.new(**options)
        return client unless block_given?

        begin
          yield client
        ensure
          client.close
        end
      end
      alias open new

      # @return [Connection] the one of the process
      def connection
        @lock.synchronize { @connection ||= Connection.new }
      end

      # Use another connection; nil: make one anew.
      def connection=(client)
        @lock.synchronize do
          @connection&.close unless @connection.equal?(client)
          @connection = client
        end
      end

      FUNCTIONS.each do |name|
        define_method(name) { |*args, **options, &block| connection.public_send(name, *args, **options, &block) }
      end
    end
  end

  module Types
    %i[
      FINISHED_STATES ClientStepResponse ClientTaskResponse ClientTaskListResponse ClientStepAuditResponse ClientHealthResponse ClientWaitResult
      ClientCreateOutcome TaskRequest
    ].each { |name| autoload name, File.expand_path("types/client_types", __dir__) }
  end
end

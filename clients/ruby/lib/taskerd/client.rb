# frozen_string_literal: true

require_relative "client/connection"
require_relative "types/client_types"

module Taskerd
  # Create tasks, follow them, look around. The functions use a connection of the process, made on first use;
  # {Connection} is one of one's own.
  module Client
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

      Connection.public_instance_methods(false).concat(Events.public_instance_methods(false)).each do |name|
        next if %i[close attach detach socket timeout].include?(name)

        define_method(name) { |*args, **options, &block| connection.public_send(name, *args, **options, &block) }
      end
    end
  end
end

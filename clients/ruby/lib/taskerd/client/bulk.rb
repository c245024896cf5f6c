# frozen_string_literal: true

module Taskerd
  module Client
    # Cuts tasks into requests that respect the daemon's limits. What cannot be sent gets its outcome here.
    # @api private
    class Bulk
      # One `task.create_many`: places of its tasks in the caller's list, and its packed tasks.
      Chunk = Struct.new(:places, :items, :repeatable)

      # @return [Array<Types::ClientCreateOutcome>] in the order of the tasks
      attr_reader :outcomes

      def initialize(limits, defaults)
        @limits = limits
        @defaults = defaults
        @max_bytes, @max_items = Codec.split_limits(limits)
        @outcomes = []
      end

      # @yield [Chunk] the requests, made as they are asked for
      def each_chunk(tasks)
        # A frame of fewer bytes than max_items needs no counting of items.
        cap = [@max_bytes, @max_items].min
        chunk = Chunk.new([], [], true)
        size = 0
        tasks.each do |task|
          item, keyed = item_of(task)
          next if item.nil?

          if chunk.items.any? && (size + item.bytesize > cap || chunk.items.size >= @limits["max_bulk"])
            yield chunk
            chunk = Chunk.new([], [], true)
            size = 0
          end
          chunk.places << (@outcomes.size - 1)
          chunk.items << item
          chunk.repeatable &&= keyed
          size += item.bytesize
        end
        yield chunk if chunk.items.any?
      end

      # Put the daemon's answer to a chunk in place.
      def settle(chunk, answer)
        results = answer.is_a?(Hash) ? answer["results"] : nil
        unless results.is_a?(Array) && results.size == chunk.places.size
          raise ProtocolError, "task.create_many was not answered with one result per task"
        end
        chunk.places.zip(results) { |place, result| @outcomes[place] = Types::ClientCreateOutcome.from_wire(result) }
      end

      # All tasks of a chunk met the same error.
      def settle_error(chunk, error)
        chunk.places.each { |place| @outcomes[place] = Types::ClientCreateOutcome.new(error: error) }
      end

      private

      def item_of(task)
        @outcomes << nil
        params = Calls.params({ **@defaults, **task.transform_keys(&:to_sym) })
        value = Calls.value(params)
        item = Codec.pack(value)
        Calls.check_size(item, value, { "max_frame" => @max_bytes, "max_items" => @max_items })
        [item, !params["idempotency_key"].nil?]
      rescue InvalidValueError, TooLargeError => e
        @outcomes[-1] = Types::ClientCreateOutcome.new(error: e)
        nil
      end
    end
  end
end

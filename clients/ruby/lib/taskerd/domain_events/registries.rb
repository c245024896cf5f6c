# frozen_string_literal: true

module Taskerd
  module DomainEvents
    # Publishers by name.
    class PublisherRegistry
      # No publisher of the name is registered.
      class PublisherNotFoundError < Errors::ConfigurationError; end
      # The registry takes no more publishers.
      class RegistryFrozenError < Errors::ConfigurationError; end
      # Another publisher has the name.
      class DuplicatePublisherError < Errors::ConfigurationError; end
      # Publishers that templates name are missing.
      class ValidationError < Errors::ConfigurationError; end

      @lock = Mutex.new

      class << self
        # @return [PublisherRegistry] the one that the worker asks
        def instance
          @lock.synchronize { @instance ||= new }
        end

        # @return [PublisherRegistry, nil] the same if it has been used
        # @api private
        def current
          @instance
        end
      end

      def initialize
        @publishers = {}
        @default = DefaultPublisher.new
        @frozen = false
      end

      # Add a publisher. RegistryFrozenError after {#freeze!}, DuplicatePublisherError if another one has the name.
      def register(publisher)
        made = publisher.is_a?(Class) ? publisher.new : publisher
        raise RegistryFrozenError, "the publisher registry is frozen" if @frozen
        raise DuplicatePublisherError, "there is a publisher #{made.name}" if @publishers.key?(made.name.to_s)

        @publishers[made.name.to_s] = made
      end

      # Add the publishers that this process has defined, where their names are not taken and they need nothing to be made.
      # @api private
      def register_known
        return if @frozen

        BasePublisher.known.each do |kind|
          next if kind.name.nil? || kind == DefaultPublisher || @publishers.each_value.any?(kind)

          made = kind.new
          @publishers[made.name.to_s] ||= made
        rescue StandardError, NotImplementedError # an abstract one, or one that its application makes itself
          next
        end
      end

      def unregister(name)
        raise RegistryFrozenError, "the publisher registry is frozen" if @frozen

        !@publishers.delete(name.to_s).nil?
      end

      # @return [BasePublisher, nil]
      def get(name)
        @publishers[name.to_s]
      end

      def get_or_default(name = nil)
        get(name) || @default
      end

      # PublisherNotFoundError if there is none.
      def get_strict(name)
        get(name) || raise(PublisherNotFoundError, "no publisher #{name}")
      end

      def registered?(name)
        @publishers.key?(name.to_s)
      end

      def registered_names
        @publishers.keys.sort
      end
      alias list_publishers registered_names

      def count
        @publishers.size
      end

      # ValidationError if a publisher is missing; then no more are taken.
      def validate_required(names)
        missing = names.map(&:to_s).reject { |name| name == "default" || registered?(name) }
        raise ValidationError, "publishers are missing: #{missing.join(", ")}" unless missing.empty?

        freeze!
      end
      alias validate_required! validate_required

      # Take no more publishers.
      def freeze!
        @frozen = true
      end

      def frozen?
        @frozen
      end

      def clear
        raise RegistryFrozenError, "the publisher registry is frozen" if @frozen

        @publishers.clear
      end
      alias clear! clear

      # Forget all publishers and thaw.
      def reset
        @frozen = false
        @publishers.clear
      end
      alias reset! reset
    end

    # Subscriber classes and instances of the process.
    class SubscriberRegistry
      @lock = Mutex.new

      # @return [SubscriberRegistry]
      def self.instance
        @lock.synchronize { @instance ||= new }
      end

      attr_reader :subscribers

      def initialize
        @classes = []
        @subscribers = []
      end

      # Add a class; {#start_all!} makes the instance.
      def register(subscriber)
        return register_instance(subscriber) unless subscriber.is_a?(Class)

        @classes << subscriber unless @classes.include?(subscriber)
      end

      # Add the subscribers that this process has defined.
      # @api private
      def register_known
        usable = BaseSubscriber.known.select { |kind| kind.name && kind.instance_method(:handle).owner != BaseSubscriber }
        usable.each { |kind| register(kind) if kind.instance_method(:initialize).arity <= 0 }
      end

      # Add an instance.
      def register_instance(subscriber)
        @subscribers << subscriber unless @subscribers.include?(subscriber)
      end

      # Start every subscriber.
      # @param poller [Poller, nil] default: the one of the process
      def start_all!(poller = nil)
        (@classes - @subscribers.map(&:class)).each { |kind| @subscribers << kind.new }
        return [] if @subscribers.empty?

        poller ||= Poller.instance
        @subscribers.each { |subscriber| subscriber.start!(poller) }
      end
      alias start_all start_all!

      def stop_all!
        @subscribers.each(&:stop!)
      end
      alias stop_all stop_all!

      def count
        @subscribers.size + (@classes - @subscribers.map(&:class)).size
      end

      # @return [Hash] how many subscribers there are and run, and their patterns
      def stats
        {
          total_subscribers: count, subscriber_count: count, active_subscribers: @subscribers.count(&:active?), active_count: @subscribers.count(&:active?),
          subscribers: @subscribers.map { |s| { class: s.class.name, active: s.active?, patterns: s.subscriptions } }
        }
      end

      # Stop and forget all.
      def reset!
        stop_all!
        @classes.clear
        @subscribers.clear
      end
      alias reset reset!
    end
  end
end

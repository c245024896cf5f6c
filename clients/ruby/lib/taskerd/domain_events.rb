# frozen_string_literal: true

require_relative "domain_events/event"
require_relative "domain_events/publisher"
require_relative "domain_events/subscriber"
require_relative "domain_events/registries"
require_relative "domain_events/stream"

module Taskerd
  # Events that steps publish.
  module DomainEvents
    # Take in what the files of an application define, and let subscribers have their events.
    # @api private
    def self.start(socket, namespaces = nil)
      PublisherRegistry.instance.register_known
      subscribers = SubscriberRegistry.instance
      subscribers.register_known
      subscribers.start_all!(Poller.instance(socket: socket, namespaces: namespaces)) if subscribers.count.positive?
    end
  end
end

# frozen_string_literal: true

require_relative "domain_events/event"
require_relative "domain_events/publisher"
require_relative "domain_events/subscriber"
require_relative "domain_events/registries"
require_relative "domain_events/stream"

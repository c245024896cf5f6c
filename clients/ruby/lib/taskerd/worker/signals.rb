# frozen_string_literal: true

module Taskerd
  module Worker
    # The signals of a worker's process belong to the worker: what a handler wants at one of them must not keep it from draining.
    # @api private
    module Signals
      NAMES = %w[TERM INT USR1].freeze

      # In front of `trap`, as Kernel, Kernel.trap and Signal.trap have it.
      module Guard
        def trap(signal, *command, &block)
          return super unless Signals.taken?(signal)

          Signals.tell(signal)
          "DEFAULT"
        end
      end

      @held = false
      @told = false

      class << self
        # Have the worker's own block called at these signals until {release}.
        def take(&block)
          @previous = NAMES.to_h { |name| [name, Signal.trap(name) { block.call(name) }] }
          @guarded ||= [Kernel, Kernel.singleton_class, Signal.singleton_class].each { |place| place.prepend(Guard) }
          @held = true
        end

        def release
          @held = false
          @previous&.each { |name, handler| Signal.trap(name, handler || "DEFAULT") }
          @previous = nil
        end

        def taken?(signal)
          @held && NAMES.include?(signal.is_a?(Integer) ? Signal.signame(signal) : signal.to_s.delete_prefix("SIG"))
        end

        def tell(signal)
          return if @told

          @told = true
          Logger.instance.warn("a handler traps #{signal}: that is left out, the worker's own way of ending holds")
        end
      end
    end
  end
end

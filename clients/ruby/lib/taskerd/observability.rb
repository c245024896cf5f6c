# frozen_string_literal: true

module Taskerd
  # A look at the worker of this process.
  module Observability
    class << self
      # @return [Hash] `healthy`, `status` and more
      def health_check
        started? ? Worker::Bootstrap.instance.health_check : { healthy: false, status: "not running", rust: {}, ruby: { running: false } }
      end
      alias health_basic health_check
      alias health_detailed health_check

      # @return [Boolean]
      def health_live
        started?
      end

      # @return [Boolean] true if steps are taken
      def health_ready
        health_check[:healthy]
      end
      alias ready? health_ready
      alias alive? health_live

      # @return [Hash] counters of the worker
      def metrics
        started? ? Worker::Bootstrap.instance.service.status.slice(:counters, :open_steps, :unacknowledged, :max_concurrency) : {}
      end
      alias metrics_worker metrics

      # @return [Hash] how the worker is set up
      def config
        started? ? Worker::Bootstrap.instance.service.status.slice(:environment, :supported_namespaces, :handlers, :threads, :max_concurrency) : {}
      end
      alias worker_config config

      # @return [Array<Hash>] the daemon's templates
      def templates
        Client.list_templates
      end

      private

      def started?
        !Worker.autoload?(:Bootstrap) && Worker::Bootstrap.running?
      end
    end
  end
end

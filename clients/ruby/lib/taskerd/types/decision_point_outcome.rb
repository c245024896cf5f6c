# frozen_string_literal: true

module Taskerd
  module Types
    # What a decision says: {CreateSteps} or {NoBranches}.
    module DecisionPointOutcome
      # Create these steps.
      CreateSteps = Struct.new(:step_names, keyword_init: true) do
        def type
          "create_steps"
        end

        def requires_step_creation?
          true
        end

        def to_h
          { type: type, step_names: step_names }
        end
      end

      # Create none.
      NoBranches = Struct.new(:unused, keyword_init: true) do
        def type
          "no_branches"
        end

        def step_names
          []
        end

        def requires_step_creation?
          false
        end

        def to_h
          { type: type }
        end
      end

      class << self
        # @param names [String, Array<String>]
        def create_steps(names)
          found = Array(names).map { |name| name.is_a?(Symbol) ? name.name : name }
          raise ArgumentError, "step_names must not be empty" if found.empty?

          CreateSteps.new(step_names: found)
        end

        def no_branches
          NoBranches.new
        end

        # @return [CreateSteps, NoBranches, nil] nil if the Hash is no outcome
        def from_hash(hash)
          case hash[:type] || hash["type"]
          when "no_branches" then no_branches
          when "create_steps"
            names = hash[:step_names] || hash["step_names"]
            names.is_a?(Array) && names.any? ? create_steps(names) : nil
          end
        end
      end
    end

    # What a batchable step says: {CreateBatches} or {NoBatches}.
    module BatchProcessingOutcome
      # A worker for each part.
      CreateBatches = Struct.new(:worker_template_name, :worker_count, :cursor_configs, :total_items, keyword_init: true) do
        def type
          "create_batches"
        end

        def requires_batch_creation?
          true
        end

        def to_h
          { type: type, worker_template_name: worker_template_name, worker_count: worker_count, cursor_configs: cursor_configs,
            total_items: total_items }
        end
      end

      # Nothing to do.
      NoBatches = Struct.new(:unused, keyword_init: true) do
        def type
          "no_batches"
        end

        def requires_batch_creation?
          false
        end

        def to_h
          { type: type }
        end
      end

      class << self
        # ArgumentError if the parts do not fit together.
        def create_batches(worker_template_name:, cursor_configs:, total_items:, worker_count: nil)
          configs = cursor_configs.map { |config| check(config.to_h) }
          raise ArgumentError, "worker_template_name must not be empty" if worker_template_name.to_s.empty?
          raise ArgumentError, "cursor_configs must not be empty" if configs.empty?
          raise ArgumentError, "worker_count is #{worker_count}, cursor_configs are #{configs.size}" unless [nil, configs.size].include?(worker_count)
          raise ArgumentError, "total_items must not be negative" if total_items.negative?

          CreateBatches.new(worker_template_name: worker_template_name.to_s, worker_count: configs.size, cursor_configs: configs,
                            total_items: total_items)
        end

        def no_batches
          NoBatches.new
        end

        # @return [CreateBatches, NoBatches, nil] nil if the Hash is no outcome
        def from_hash(hash)
          found = hash.transform_keys(&:to_sym)
          case found[:type]
          when "no_batches" then no_batches
          when "create_batches"
            create_batches(**found.slice(:worker_template_name, :cursor_configs, :total_items, :worker_count))
          end
        end

        private

        def check(config)
          found = config.transform_keys(&:to_s)
          first, last, size = found.values_at("start_cursor", "end_cursor", "batch_size")
          if first.is_a?(Integer) && last.is_a?(Integer) && size.is_a?(Integer) && size != last - first
            raise ArgumentError, "batch #{found["batch_id"]}: batch_size is #{size}, end_cursor - start_cursor is #{last - first}"
          end
          found
        end
      end
    end
  end
end

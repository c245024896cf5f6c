# frozen_string_literal: true

require "json"
require "date"
require "yaml"

module Taskerd
  # Finding template files, and the handlers they name.
  module TemplateDiscovery
    # Where templates lie: `TASKER_TEMPLATE_PATH`, `WORKSPACE_PATH/config/tasks`, the same below the workspace that encloses the
    # current directory, `./config/tasks`.
    module TemplatePath
      MARKERS = %w[Gemfile .git].freeze

      class << self
        # @return [String, nil] the first of these directories that exists; a TASKER_TEMPLATE_PATH that does not is an error
        def find
          named = ENV["TASKER_TEMPLATE_PATH"]
          if named && !named.empty?
            raise Errors::ConfigurationError, "TASKER_TEMPLATE_PATH: no such directory: #{named}" unless File.exist?(named)

            return named
          end
          places.map { |place| File.join(place, "config", "tasks") }.find { |place| File.directory?(place) }
        end

        # The same; nil also for a TASKER_TEMPLATE_PATH that does not exist.
        def find_template_config_directory
          find
        rescue Errors::ConfigurationError
          nil
        end

        # @return [Array<String>] the template files below a directory; a file stands for itself
        def files(directory)
          path = directory.to_s
          return [path] if File.file?(path)
          raise Errors::ConfigurationError, "no such directory: #{path}" unless File.directory?(path)

          Dir.glob("**/*.{yaml,yml,json}", base: path).sort.map { |f| File.join(path, f) }
        end

        # @return [Array<String>] the template files below a directory, by default the one that {.find} finds
        def discover_template_files(directory = find_template_config_directory)
          directory && File.exist?(directory.to_s) ? files(directory) : []
        end

        private

        def places
          above = [Dir.pwd]
          above << File.dirname(above.last) until above.last == "/"
          enclosing = above.find { |dir| MARKERS.any? { |marker| File.exist?(File.join(dir, marker)) } }
          [ENV["WORKSPACE_PATH"], enclosing, Dir.pwd].compact
        end
      end
    end

    # Looks into template files without a daemon. Only what concerns handlers is read; whether a template is right is for the
    # daemon to say.
    module TemplateParser
      class << self
        # @return [Hash] a template
        def parse(path)
          text = File.read(path, encoding: "UTF-8")
          found = path.to_s.end_with?(".json") ? JSON.parse(text) : YAML.safe_load(text, permitted_classes: [Date, Time, Symbol], aliases: true)
          found.is_a?(Hash) ? found : {}
        end

        # @return [Array<String>] every `handler.callable` of a template, also those that only some environments have; each once
        def callables(template)
          found = []
          collect(template, found)
          found.uniq
        end

        # @return [Array<String>] the callables of a template file; none if it cannot be read
        def extract_handler_callables(path)
          callables(parse(path))
        rescue StandardError
          []
        end

        # @return [Hash] `name`, `namespace_name`, `version`, `description` and the callables of a template file
        def extract_template_metadata(path)
          template = parse(path)
          { name: template["name"], namespace_name: template["namespace_name"], version: template["version"],
            description: template["description"], file_path: path.to_s, handlers: callables(template) }
        end

        private

        def collect(value, found)
          case value
          when Hash
            handler = value["handler"]
            found << handler["callable"] if handler.is_a?(Hash) && handler["callable"].is_a?(String)
            value.each_value { |item| collect(item, found) }
          when Array then value.each { |item| collect(item, found) }
          end
        end
      end
    end

    # Handlers of templates.
    module HandlerDiscovery
      # @return [Array<String>] the callables of all templates below a directory
      def self.discover_all_handlers(directory = TemplatePath.find_template_config_directory)
        TemplatePath.discover_template_files(directory).flat_map { |file| TemplateParser.extract_handler_callables(file) }.uniq
      end
    end
  end
end

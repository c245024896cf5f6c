# frozen_string_literal: true

module Taskerd
  # Loading files of handlers, and telling well what is wrong with one that cannot be loaded.
  module Loading
    # A file that could not be loaded, and where that went wrong.
    Failure = Struct.new(:path, :file, :line, :error, keyword_init: true) do
      def to_s
        "#{path} cannot be loaded: #{"#{file}:#{line}: " if file}#{error}"
      end

      # As the handshake tells it; short enough that all failures fit.
      def to_wire
        { "name" => short(path), "file" => short(file), "line" => line || 0, "message" => short(error) }
      end

      private

      def short(text)
        LogBridge.text(text)[0, 200]
      end
    end

    # Where applications keep their handlers.
    PLACES = %w[app/handlers lib/handlers handlers app/tasker/handlers lib/tasker/handlers].freeze
    # Of a path that ends so the library is meant, wherever the path leads.
    OWN = %r{/lib/(taskerd(?:/[\w/]+)?)(?:\.rb)?\z}.freeze
    # Parts of the library that have no file of their own: all of it is loaded.
    PART = %r{\Ataskerd/[\w/]+\z}.freeze
    # Bases that the library brings.
    LIBRARY = %w[Decision Batchable Api FunctionalHandler FunctionalDecision FunctionalAnalyzer FunctionalWorker FunctionalApi]
              .map { |name| "Taskerd::StepHandler::#{name}" }.freeze

    class << self
      # Load a file, everything below a directory, or a feature by name.
      # @param failures [Array<Failure>] files that cannot be loaded are put there
      # @return [Array<Class>] the handler classes defined in it
      def load(place, failures)
        known = StepHandler::Base.known
        before = known.size
        all = files(place)
        all.each { |file| load_one(file, failures, all) unless failures.any? { |failure| failure.path == file } }
        found = handlers_in(known[before..])
        found.empty? ? handlers_in(known.select { |klass| defined_below?(klass, place) }) : found
      end

      # Classes among those known that are handlers: no bases of others that have no `call` of their own.
      def handlers_in(classes)
        classes.select { |klass| klass.functional? || (klass.name && !library?(klass) && callable?(klass)) }
      end

      # @return [Array<String>] the files of a place, in the order they are to be loaded; LoadError if there is no such place
      def files(place)
        path = place.to_s
        return Dir.glob("**/*.rb", base: path).reject { |f| skipped?(f) }.sort_by { |f| [f.count("/"), f] }.map { |f| File.expand_path(f, path) } if File.directory?(path)
        return [File.expand_path(path)] if File.file?(path)
        return [File.expand_path("#{path}.rb")] if File.file?("#{path}.rb")
        raise LoadError, "no such file or directory: #{path}" if path.include?("/") && path.end_with?(".rb")

        [path]
      end

      # The file in which an application keeps the handler of a callable, nil if there is none.
      def file_of(callable)
        parts = callable.to_s.split("::").map { |part| Handlers.snake_case(part) }
        roots = [ENV["WORKSPACE_PATH"], Dir.pwd].compact.uniq
        candidates = [parts.join("/"), parts.last].uniq
        roots.product(PLACES).each do |root, place|
          candidates.each do |name|
            file = File.join(root, place, "#{name}.rb")
            return file if File.file?(file)
          end
        end
        nil
      end

      private

      def skipped?(file)
        file.split("/").any? { |part| part.start_with?(".", "_") } || file.end_with?("_spec.rb", "_test.rb", "_helper.rb")
      end

      def load_one(file, failures, others)
        tries = 0
        begin
          require file
        rescue LoadError => e
          tries += 1
          retry if tries < 4 && provide(e)
          fail_with(file, e, failures)
        rescue NameError => e
          needed = defining(e, others) or raise
          load_one(needed, failures, others -= [needed])
          retry
        end
      rescue StandardError, ScriptError, SystemStackError, SystemExit => e
        fail_with(file, e, failures)
      end

      # The file that autoloading would have found for a constant that is missing: handlers of Rails applications count on it.
      def defining(error, files)
        return unless error.instance_of?(NameError) && /\A[A-Z]/.match?(error.name)

        inside = error.receiver.is_a?(Module) && error.receiver != Object ? error.receiver.name.to_s.split("::") : []
        path = [*inside, error.name.to_s].map { |part| Handlers.snake_case(part) }
        candidates = [path.join("/"), path.last].uniq.map { |name| "/#{name}.rb" }
        candidates.filter_map { |name| files.find { |file| file.end_with?(name) && !$LOADED_FEATURES.include?(file) } }.first
      end

      # A file that was written beside a copy of the library names it by a relative path.
      def provide(error)
        if PART.match?(error.path.to_s)
          $LOADED_FEATURES << "#{error.path}.rb"
          return true
        end
        found = OWN.match(error.path.to_s)
        return false unless found && File.file?(File.expand_path("../#{found[1]}.rb", __dir__))

        missing = error.path.end_with?(".rb") ? error.path : "#{error.path}.rb"
        return false if $LOADED_FEATURES.include?(missing)

        require found[1]
        $LOADED_FEATURES << missing
        true
      end

      def fail_with(file, error, failures)
        raise error if error.is_a?(LoadError) && !file.include?("/") && error.path == file

        place, line = place_of(file, error)
        text = error.is_a?(SyntaxError) ? error.message.lines.first.to_s.sub(/\A\S+?:\d+: /, "").chomp : error.message
        failure = Failure.new(path: file, file: place, line: line, error: "#{error.class}: #{text}")
        Taskerd::Logger.instance.error(failure.to_s)
        failures << failure
      end

      # File and line: of a syntax error itself, else the innermost line of the file, else of anything.
      def place_of(file, error)
        found = error.is_a?(SyntaxError) && /\A(\S+?):(\d+):/.match(error.message)
        return [found[1], found[2].to_i] if found

        lines = Array(error.backtrace_locations)
        own = lines.find { |l| l.absolute_path == file } || lines.find { |l| !l.path.include?("/rubygems/") && l.path != __FILE__ && !l.path.start_with?("<") }
        own ? [own.path, own.lineno] : nil
      end

      def library?(klass)
        LIBRARY.include?(klass.name)
      end

      def callable?(klass)
        klass.instance_method(:call).owner != StepHandler::Base || klass.public_instance_methods(false).any?
      end

      # For files that were loaded before.
      def defined_below?(klass, place)
        return false unless klass.name

        file = Object.const_source_location(klass.name)&.first
        file && (file == File.expand_path(place.to_s) || file.start_with?("#{File.expand_path(place.to_s)}/"))
      rescue NameError
        false
      end
    end
  end
end

# frozen_string_literal: true

module Taskerd
  module Worker
    # The templates that concern a worker: those it ships, and those that the daemon has.
    # @api private
    class Templates
      def initialize(service, directory)
        @service = service
        @directory = directory
      end

      # Register the templates shipped with the worker.
      # @return [Array<Hash>] handler entries of templates that the worker may serve
      def callables(deadline)
        ask = @service.registry.open_ended?
        files = @directory ? TemplateDiscovery::TemplatePath.files(@directory) : []
        @service.registry.template_discovery_info = { template_path: @directory, files: files } if @directory
        client = Client::Connection.new(socket: @service.socket)
        await_daemon(client, deadline)
        shipped = files.flat_map { |file| apply(client, File.read(file, encoding: "UTF-8"), file) }
        shipped | (ask ? known(client) : [])
      ensure
        client&.close
      end

      # @return [Array<Hash>] handler entries of all templates that the daemon has now
      def known_now
        client = Client::Connection.new(socket: @service.socket)
        known(client)
      ensure
        client&.close
      end

      private

      def await_daemon(client, deadline)
        complaints = Transport::Complaints.new
        begin
          left = deadline ? [5.0, deadline - Transport.now].min : 5.0
          client.connect([left, 0.0].max)
        rescue DaemonError => e
          raise if !e.retryable? || (deadline && Transport.now >= deadline - 0.1)

          Logger.instance.warn("waiting for taskerd: #{e.message}") if complaints.due?
          retry
        end
      end

      # Register one template. An invalid one ends the start; one that is taken, or that this user may not register, is an
      # operator's business: the worker serves what the daemon has.
      def apply(client, source, file)
        done = client.apply_template(source, filename: file)
        Array(done["findings"]).each { |finding| Logger.instance.warn("template #{Client::InvalidTemplateError.line(finding)}") }
        Logger.instance.info("template #{done["namespace"]}/#{done["name"]} #{done["version"]} " \
                             "#{done["created"] ? "registered" : "is registered already"}")
        handlers(client, done)
      rescue Client::ConflictError, Client::PermissionDeniedError => e
        Logger.instance.error("template #{file} was not registered: #{e.message}")
        []
      end

      # For resolvers that cannot list the names they serve: every handler that the daemon's templates name.
      def known(client)
        client.list_templates.flat_map { |template| handlers(client, template) }
      rescue DaemonError => e
        Logger.instance.warn("the daemon's templates cannot be listed: #{e.message}")
        []
      end

      def handlers(client, template)
        found = client.get_template(template["name"], namespace: template["namespace"], version: template["version"])
        Array(found["steps"]).filter_map { |step| step["handler"] if step["handler"].is_a?(Hash) && step["handler"]["callable"] }
      rescue DaemonError => e
        Logger.instance.warn("template #{template["name"]} cannot be read: #{e.message}")
        []
      end
    end
  end
end

# frozen_string_literal: true

require_relative "../../http"

module Taskerd
  module StepHandler
    module Mixins
      # For handlers that call HTTP services. `config` has their settings: `url`, `timeout`, `open_timeout` (seconds), `headers`,
      # `params`, `ssl` (`verify`, `ca_file`), `auth` (`type`: `bearer`, `basic` or `api_key`; `token`, `username`, `password`,
      # `api_key_header`).
      #
      # A request whose answer is no 2xx raises: 400, 401, 403, 404 and 422 a PermanentError with the code `HTTP_<status>`, 429,
      # 503, other 5xx and whatever else a RetryableError, after the `Retry-After` of the answer. Faraday makes the requests where it is
      # installed, Ruby's own library otherwise.
      module API
        PERMANENT_STATUSES = [400, 401, 403, 404, 422].freeze

        def capabilities
          super | %w[api http]
        end

        def get(path, params: {}, headers: {})
          api_request(:get, path, params: params, headers: headers)
        end

        def delete(path, params: {}, headers: {})
          api_request(:delete, path, params: params, headers: headers)
        end

        %i[post put patch].each do |verb|
          define_method(verb) { |path, data: {}, headers: {}, json: nil| api_request(verb, path, data: json || data, headers: headers) }
        end

        # @return [Faraday::Connection, Http::Connection]
        def connection
          @connection ||= Http.connect(api_settings, @configure_connection)
        end

        # Change the connection when it is made; for Faraday.
        def configure_connection(&block)
          @configure_connection = block
          self
        end

        # The answer itself if its status is 2xx, else an exception that tells whether to try again.
        def process_response(response)
          status = response.status.to_i
          return response if status.between?(200, 299)

          message = "HTTP #{status}: #{Http.reason(response)}"
          raise api_error(status, message, response)
        end

        # Send a file as `multipart/form-data`.
        def api_upload_file(path, file_path, field_name: "file", additional_fields: {}, headers: {})
          body, type = Http.multipart(field_name, file_path, additional_fields)
          api_request(:post, path, raw: body, headers: { **headers, "Content-Type" => type })
        end

        # All pages of a list, one request each.
        # @yield [response] every answer; without a block its items are collected
        def api_paginated_request(path, method: :get, pagination_key: "page", limit_key: "limit", limit: 100, max_pages: 100, params: {}, headers: {})
          items = []
          (1..max_pages).each do |page|
            response = api_request(method, path, params: { **params, pagination_key => page, limit_key => limit }, headers: headers)
            found = Http.items(response.body)
            block_given? ? yield(response) : items.concat(found)
            break if found.size < limit
          end
          items
        end

        # The step is done, with what a service has answered.
        def api_success(data: nil, result: nil, status: 200, headers: {}, execution_time_ms: nil, metadata: {})
          told = { execution_time_ms: execution_time_ms }.compact
          Types::StepHandlerCallResult.success(result: Taskerd.indifferent({ data: data.nil? ? result : data, status: status, headers: headers.to_h }),
                                               metadata: { **told, **metadata })
        end

        # The attempt failed, in a way that the status tells.
        def api_failure(message:, status: nil, error_type: nil, headers: {}, execution_time_ms: nil, metadata: {}, retry_after: nil)
          types = Types::ErrorTypes
          kind = error_type || { 4 => types::PERMANENT_ERROR, 5 => types::RETRYABLE_ERROR }.fetch(status.to_i / 100, types::UNEXPECTED_ERROR)
          told = { status_code: status, headers: headers.to_h, execution_time_ms: execution_time_ms }.compact
          wait = retry_after || Http.retry_after(headers)
          failure(message: message, error_type: kind, error_code: status && "HTTP_#{status}", retryable: status.to_i >= 500 || status.to_i == 429,
                  metadata: { **told, **metadata }, retry_after: wait)
        end

        private

        def api_settings
          settings = config.to_h.transform_keys(&:to_s)
          settings["url"] ||= settings["base_url"]
          settings
        end

        def api_request(verb, path, **options)
          process_response(Http.request(connection, verb, path, **options))
        rescue *Http.timeouts => e
          raise Errors::RetryableError.new("the service did not answer in time: #{e.message}", error_code: "HTTP_TIMEOUT",
                                                                                              context: { exception_type: e.class.name })
        rescue *Http.failures => e
          raise Errors::NetworkError.new("the service cannot be reached: #{e.message}", context: { exception_type: e.class.name })
        end

        def api_error(status, message, response)
          context = { status_code: status, response_body: response.body.to_s[0, 2048] }
          return Errors::PermanentError.new(message, error_code: "HTTP_#{status}", context: context) if PERMANENT_STATUSES.include?(status)

          Errors::RetryableError.new(message, error_code: "HTTP_#{status}", retry_after: Http.retry_after(response.headers), context: context)
        end
      end
    end
  end
end

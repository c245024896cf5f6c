# frozen_string_literal: true

require "json"
require "net/http"
require "securerandom"
require "time"
require "timeout"
require "uri"

module Taskerd
  # HTTP for the API mixin: Faraday where it is installed, else Ruby's own library behind the few methods that are needed.
  # @api private
  module Http
    # An answer, with the readers of Faraday's.
    Response = Struct.new(:status, :headers, :body, keyword_init: true) do
      def success?
        status.between?(200, 299)
      end
    end

    # Headers whose names have no case.
    class Headers < Hash
      def [](name)
        super(name.to_s.downcase)
      end

      def key?(name)
        super(name.to_s.downcase)
      end
    end

    class << self
      # @return [Faraday::Connection, Connection]
      def connect(settings, configure)
        check(settings["url"])
        return Connection.new(settings) unless faraday?

        connection = ::Faraday.new(url: settings["url"], params: settings["params"] || {}, headers: headers(settings),
                                   ssl: (settings["ssl"] || {}).to_h.transform_keys(&:to_sym)) do |faraday|
          faraday.options.timeout = settings["timeout"] if settings["timeout"]
          faraday.options.open_timeout = settings["open_timeout"] if settings["open_timeout"]
          configure&.call(faraday)
          faraday.adapter(::Faraday.default_adapter) unless configure && faraday.builder.handlers.any?
        end
        connection
      end

      def faraday?
        return @faraday unless @faraday.nil?
        return @faraday = false if ENV["TASKERD_FARADAY"] == "off"

        @faraday = begin
          require "faraday"
          true
        rescue LoadError
          false
        end
      end

      # One request. `data` is sent as JSON, `raw` as it is; a JSON answer is parsed.
      def request(connection, verb, path, params: {}, headers: {}, data: nil, raw: nil)
        body, own = raw ? [raw, {}] : json_body(data)
        sent = { **own, **headers.to_h.transform_keys(&:to_s) }
        return connection.request(verb, path, params, sent, body) if connection.is_a?(Connection)

        # With a slash in front it would replace the path of the URL.
        found = connection.run_request(verb, path.to_s.delete_prefix("/"), body, sent) { |request| request.params.update(params.transform_keys(&:to_s)) if params.any? }
        found.body.is_a?(String) ? Response.new(status: found.status, headers: found.headers, body: parsed(found.body, found.headers)) : found
      end

      # Headers of every request, with the credentials.
      def headers(settings)
        { "Accept" => "application/json", **(settings["headers"] || {}).to_h.transform_keys(&:to_s), **credentials(settings["auth"]) }
      end

      # Body of an answer: parsed if its type says JSON.
      def parsed(body, headers)
        return body unless headers["content-type"].to_s.include?("json") && !body.to_s.strip.empty?

        JSON.parse(body)
      rescue JSON::ParserError
        body
      end

      # Seconds that an answer asks to wait; 60 if it says so in words that are not understood.
      def retry_after(headers)
        found = headers.to_h.find { |name, _| name.to_s.casecmp?("retry-after") }&.last
        return nil if found.nil?
        return found.to_f if /\A\d+(\.\d+)?\z/.match?(found.to_s)

        [Time.httpdate(found.to_s) - Time.now, 0].max
      rescue ArgumentError
        60
      end

      # Why, in the words of an answer.
      def reason(response)
        body = response.body
        said = body.is_a?(Hash) ? body.values_at("error", "message", "detail", "error_message", "msg").compact.first : nil
        said = said["message"] if said.is_a?(Hash)
        said.is_a?(String) ? said : (body.is_a?(String) && !body.empty? ? body[0, 200] : "no reason given")
      end

      # The items of a page.
      def items(body)
        return body if body.is_a?(Array)

        body.is_a?(Hash) ? Array(body.values_at("data", "items", "results").compact.first) : []
      end

      def timeouts
        faraday? ? [::Faraday::TimeoutError, Timeout::Error, Errno::ETIMEDOUT] : [Timeout::Error, Errno::ETIMEDOUT]
      end

      def failures
        known = [SystemCallError, SocketError, IOError]
        known << OpenSSL::SSL::SSLError if defined?(OpenSSL::SSL::SSLError)
        faraday? ? [::Faraday::ConnectionFailed, ::Faraday::SSLError, *known] : known
      end

      # @return [Array<String>] body and content type
      def multipart(field, path, more)
        boundary = "taskerd-#{SecureRandom.hex(16)}"
        parts = more.map { |name, value| "--#{boundary}\r\nContent-Disposition: form-data; name=\"#{name}\"\r\n\r\n#{value}\r\n" }
        parts << "--#{boundary}\r\nContent-Disposition: form-data; name=\"#{field}\"; filename=\"#{File.basename(path)}\"\r\n" \
                 "Content-Type: application/octet-stream\r\n\r\n"
        ["#{parts.join}".b << File.binread(path) << "\r\n--#{boundary}--\r\n", "multipart/form-data; boundary=#{boundary}"]
      end

      private

      def check(url)
        return if url.nil? || %r{\Ahttps?://[^/]}.match?(url.to_s)

        raise Errors::ConfigurationError, "url: #{url.inspect} is no URL of an HTTP service"
      end

      def json_body(data)
        return [nil, {}] if data.nil?
        return [data, {}] if data.is_a?(String)

        [JSON.generate(Codec::Plain.of(data)), { "Content-Type" => "application/json" }]
      end

      def credentials(auth)
        auth = (auth || {}).to_h.transform_keys(&:to_s)
        case auth["type"].to_s
        when "bearer" then { "Authorization" => "Bearer #{auth["token"]}" }
        when "basic" then { "Authorization" => "Basic #{["#{auth["username"]}:#{auth["password"]}"].pack("m0")}" }
        when "api_key" then { auth["api_key_header"] || "X-API-Key" => auth["token"] || auth["api_key"] }
        else {}
        end
      end
    end

    # Requests by Net::HTTP.
    class Connection
      def initialize(settings)
        @settings = settings
        @base = settings["url"].to_s
      end

      # What a block given to one of the verbs below can change.
      Request = Struct.new(:path, :params, :headers, :body)

      # @return [Response] a JSON body parsed
      def request(verb, path, params, headers, body)
        found = exchange(verb, path, params, headers, body)
        found.body = Http.parsed(found.body, found.headers)
        found
      end

      # As Faraday's are called; the body of the answer is text.
      %i[get head delete].each do |verb|
        define_method(verb) { |path = "", params = nil, headers = nil, &block| plain(verb, Request.new(path, params.to_h, headers.to_h, nil), block) }
      end

      %i[post put patch].each do |verb|
        define_method(verb) { |path = "", body = nil, headers = nil, &block| plain(verb, Request.new(path, {}, headers.to_h, body), block) }
      end

      private

      def plain(verb, request, block)
        request.headers = request.headers.transform_keys(&:to_s)
        block&.call(request)
        body = request.body.is_a?(Hash) ? URI.encode_www_form(request.body) : request.body
        form = request.body.is_a?(Hash) ? { "Content-Type" => "application/x-www-form-urlencoded" } : {}
        exchange(verb, request.path, request.params, form.merge(request.headers), body)
      end

      def exchange(verb, path, params, headers, body)
        uri = target(path, params)
        request = Net::HTTP.const_get(verb.to_s.capitalize).new(uri, Http.headers(@settings).merge(headers))
        request.body = body if body
        answer = Net::HTTP.start(uri.hostname, uri.port, **options(uri)) { |http| http.request(request) }
        found = answer.each_header.with_object(Headers.new) { |(name, value), all| all[name.downcase] = value }
        text = answer.body.to_s.dup.force_encoding(Encoding::UTF_8)
        Response.new(status: answer.code.to_i, headers: found, body: text)
      end

      def target(path, params)
        whole = /\Ahttps?:/.match?(path.to_s) || @base.empty? ? path.to_s : "#{@base.chomp("/")}/#{path.to_s.delete_prefix("/")}"
        uri = URI.parse(whole)
        raise Errors::ConfigurationError, "#{whole.inspect} is no URL of an HTTP service; set url" unless uri.is_a?(URI::HTTP)

        all = (@settings["params"] || {}).to_h.merge(params)
        uri.query = [uri.query, URI.encode_www_form(all)].compact.join("&") unless all.empty?
        uri
      end

      def options(uri)
        ssl = (@settings["ssl"] || {}).to_h.transform_keys(&:to_s)
        found = { use_ssl: uri.scheme == "https", read_timeout: @settings["timeout"] || 30, open_timeout: @settings["open_timeout"] || 10 }
        found[:ca_file] = ssl["ca_file"] if ssl["ca_file"]
        found[:verify_mode] = OpenSSL::SSL::VERIFY_NONE if ssl["verify"] == false
        found
      end
    end
  end
end

# frozen_string_literal: true

require_relative "support"
require "taskerd/testing"

# Handlers that call an HTTP service, against a server of a few lines.
class TestApi < Minitest::Test
  include Taskerd::Testing

  def setup
    @server = TCPServer.new("127.0.0.1", 0)
    @requests = Queue.new
    @answers = Queue.new
    @thread = Thread.new { loop { serve(@server.accept) } }
    @thread.report_on_exception = false
  end

  def teardown
    @thread.kill
    @server.close
  end

  def serve(socket)
    head = socket.gets("\r\n\r\n")
    body = socket.read(head[/content-length: (\d+)/i, 1].to_i)
    @requests << [head, body]
    status, headers, text = @answers.pop
    lines = { "Content-Length" => text.bytesize, "Connection" => "close", **headers }.map { |name, value| "#{name}: #{value}\r\n" }
    socket.write("HTTP/1.1 #{status} X\r\n#{lines.join}\r\n#{text}")
    socket.close
  end

  def answer(status, value = nil, **headers)
    @answers << [status, { "Content-Type" => "application/json", **headers.transform_keys(&:to_s) }, value.nil? ? "" : JSON.generate(value)]
  end

  def url
    "http://127.0.0.1:#{@server.addr[1]}/v1"
  end

  def api(&block)
    Class.new(Taskerd::StepHandler::Api) { define_method(:call, &block) }
  end

  def test_an_answer_and_what_was_asked
    handler = api do |context|
      response = post("charges", data: { order: context.get_input(:id) }, headers: { "X-Id" => "7" })
      api_success(data: response.body, status: response.status, metadata: { a: 1 })
    end
    answer(201, { ok: [1] })
    result = run_handler(handler, { id: 3 }, config: { url: url, auth: { type: "bearer", token: "t" }, headers: { "X-All" => "y" } })
    assert_equal({ "data" => { "ok" => [1] }, "status" => 201, "headers" => {} }, result.result.to_h)
    head, body = @requests.pop
    assert_match(%r{\APOST /v1/charges HTTP}, head)
    ["authorization: bearer t", "x-id: 7", "x-all: y", "content-type: application/json"].each { |line| assert_includes head.downcase, line }
    assert_equal({ "order" => 3 }, JSON.parse(body))
  end

  def test_get_with_params_and_text
    @answers << [200, { "Content-Type" => "text/plain" }, "plain"]
    result = run_handler(api { |_| { text: get("/things", params: { q: "a b", n: 1 }).body } }, {}, config: { url: url })
    assert_equal({ text: "plain" }, result.result)
    assert_match(%r{\AGET \S*/things\?.*n=1}, @requests.pop.first)
  end

  def test_requests_of_the_connection_itself
    handler = api do |_|
      got = connection.get("items", { page: 2 }, { "X-Id" => "7" })
      sent = connection.post("items") do |request|
        request.headers["Content-Type"] = "application/json"
        request.body = "{}"
      end
      { got: [got.status, got.success?, JSON.parse(got.body)], sent: sent.status }
    end
    answer(200, [1])
    answer(404, {})
    assert_equal({ got: [200, true, [1]], sent: 404 }, run_handler(handler, config: { url: url, headers: { "X-All" => "y" } }).result.to_h)
    got, = @requests.pop
    assert_match(%r{\AGET /v1/items\?page=2 HTTP}, got)
    ["x-id: 7", "x-all: y"].each { |line| assert_includes got.downcase, line }
    sent, body = @requests.pop
    assert_match(%r{\APOST /v1/items HTTP.*application/json\r\n}m, sent)
    assert_equal("{}", body)
  end

  def test_what_a_status_means
    { 400 => ["PermanentError", false], 401 => ["PermanentError", false], 403 => ["PermanentError", false], 404 => ["PermanentError", false], 422 => ["PermanentError", false],
      409 => ["RetryableError", true], 429 => ["RetryableError", true], 500 => ["RetryableError", true], 503 => ["RetryableError", true] }.each do |status, wanted|
      answer(status, { error: "said no" }, "Retry-After": "7")
      result = run_handler(api { |_| get("/") }, {}, config: { url: url })
      assert_equal [*wanted, "HTTP_#{status}", "HTTP #{status}: said no"], [result.error_type, result.retryable, result.error_code, result.message]
      wanted[1] ? assert_equal(7.0, result.retry_after) : assert_nil(result.retry_after)
    end
  end

  def test_failures_by_hand
    result = run_handler(api { |_| api_failure(message: "m", status: 429, headers: { "Retry-After" => "2" }) })
    assert_equal ["PermanentError", true, "HTTP_429", 2.0], [result.error_type, result.retryable, result.error_code, result.retry_after]
    assert_equal [false, "UnexpectedError"], run_handler(api { |_| api_failure(message: "m") }).then { |r| [r.retryable, r.error_type] }
  end

  def test_nobody_there
    @server.close
    result = run_handler(api { |_| get("/") }, {}, config: { url: "http://127.0.0.1:1" })
    assert_equal ["RetryableError", true], [result.error_type, result.retryable]
    assert_includes result.message, "cannot be reached"
    @server = TCPServer.new("127.0.0.1", 0)
    wrong = run_handler(api { |_| get("/") }, {}, config: { url: "nonsense" })
    assert_equal false, wrong.retryable
  end

  def test_a_service_that_is_too_slow
    result = run_handler(api { |_| get("/") }, {}, config: { url: url, timeout: 0.05 })
    assert_equal ["RetryableError", "HTTP_TIMEOUT"], [result.error_type, result.error_code]
  end

  def test_an_api_handler_made_of_a_block
    handler = Taskerd::StepHandler::Functional.api_handler("a", base_url: url, headers: { "X-H" => "1" }, inputs: [:id]) do |id:, api:, context:|
      { found: api.get("/#{id}").body["n"], step: context.step_name }
    end
    answer(200, { n: 5 })
    assert_equal({ found: 5, step: "step" }, run_handler(handler, { id: 9 }).result)
    assert_match(%r{\AGET /v1/9 HTTP.*x-h: 1}mi, @requests.pop.first)
  end

  def test_files_and_pages
    answer(200, {})
    file = __FILE__
    run_handler(api { |_| { status: api_upload_file("/up", file, additional_fields: { a: 1 }).status } }, {}, config: { url: url })
    head, body = @requests.pop
    assert_includes head.downcase, "multipart/form-data; boundary="
    assert_includes body, File.binread(file)
    [[1, 2], [3]].each { |page| answer(200, { data: page }) }
    result = run_handler(api { |_| { all: api_paginated_request("/list", limit: 2) } }, {}, config: { url: url })
    assert_equal({ all: [1, 2, 3] }, result.result)
  end
end

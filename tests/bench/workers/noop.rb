# frozen_string_literal: true

# The handler of the Ruby worker in a benchmark: it does nothing, so that what a run takes is the engine's and the client's time.
Noop = Taskerd::StepHandler::Functional.step_handler("bench.noop") { |context:| {} }

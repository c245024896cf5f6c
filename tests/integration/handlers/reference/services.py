"""HTTP services: the ready-made class, the mixin, the function; errors by status, Retry-After, a service that is not there."""
import os

from tasker_core import ApiHandler, StepHandler
from tasker_core.step_handler.functional import api_handler, inputs
from tasker_core.step_handler.mixins import APIMixin

URL = os.environ.get("REFERENCE_SERVICE", "http://127.0.0.1:9")


class CreateAccount(ApiHandler):
    handler_name = "services.CreateAccount"
    base_url = URL
    default_timeout = 10.0
    default_headers = {"X-Client": "reference"}

    def call(self, context):
        response = self.post("/accounts", json={"email": context.get_input("email")}, headers={"X-Trace": "t"})
        if response.ok:
            return self.api_success(response, result={"account": response.body["id"], "status": response.status_code, "seen": response.body["headers"]})
        return self.api_failure(response)


class Lookup(StepHandler, APIMixin):
    handler_name = "services.Lookup"
    base_url = URL

    def call(self, context):
        response = self.get("/status/%s" % context.get_input("status"), params={"a": "1"})
        if response.status_code == 404:
            return self.failure("no such thing", error_type="not_found", retryable=False, error_code="E404")
        return self.api_success(response) if response.ok else self.api_failure(response, message="the service said no")


class Down(APIMixin, StepHandler):
    handler_name = "services.Down"
    base_url = "http://127.0.0.1:1"

    def call(self, context):
        try:
            return self.api_success(self.get("/"))
        except Exception as exc:
            return self.connection_error(exc, "down")


@api_handler("services_dsl", base_url=URL, timeout=5.0)
@inputs("email")
def send(email, api):
    response = api.put("/mail", json={"to": email})
    return api.api_success(response)

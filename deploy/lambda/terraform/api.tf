resource "aws_apigatewayv2_api" "hotswap" {
  name          = var.name
  protocol_type = "HTTP"
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.hotswap.id
  name        = "$default"
  auto_deploy = true
  default_route_settings {
    throttling_burst_limit = 200
    throttling_rate_limit  = 100
  }
}

resource "aws_apigatewayv2_integration" "function" {
  for_each               = local.functions
  api_id                 = aws_apigatewayv2_api.hotswap.id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.function[each.key].arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000 # the longest there is
}

resource "aws_apigatewayv2_route" "look" {
  for_each  = local.functions
  api_id    = aws_apigatewayv2_api.hotswap.id
  route_key = "POST /function/${each.key}"
  target    = "integrations/${aws_apigatewayv2_integration.function[each.key].id}"
}

resource "aws_apigatewayv2_route" "function" {
  for_each  = local.functions
  api_id    = aws_apigatewayv2_api.hotswap.id
  route_key = "ANY /function/${each.key}/{proxy+}"
  target    = "integrations/${aws_apigatewayv2_integration.function[each.key].id}"
}

resource "aws_lambda_permission" "api" {
  for_each      = local.functions
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function[each.key].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.hotswap.execution_arn}/*/*/function/${each.key}*"
}

output "url" {
  description = "What --public-url of the installation is, below which is /function/NAME."
  value       = local.url
}

# With webhook_queue a queue takes a webhook of Gitea, whose route is the more specific one, and
# the function takes it from there. By default the function does at once, and Gitea reads its answer.

locals {
  queued = var.webhook_queue ? 1 : 0
}

resource "aws_sqs_queue" "webhooks_dead" {
  count                     = local.queued
  name                      = "${var.name}-webhooks-dead"
  message_retention_seconds = 1209600 # two weeks
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "webhooks" {
  count                      = local.queued
  name                       = "${var.name}-webhooks"
  visibility_timeout_seconds = 150 # six times the function's, as AWS advises
  message_retention_seconds  = 345600
  sqs_managed_sse_enabled    = true
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.webhooks_dead[0].arn, maxReceiveCount = 5 })
}

resource "aws_lambda_event_source_mapping" "webhooks" {
  count                   = local.queued
  event_source_arn        = aws_sqs_queue.webhooks[0].arn
  function_name           = aws_lambda_function.function["forge-webhook"].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = 2
  }
  depends_on = [aws_iam_role_policy.webhooks_take]
}

resource "aws_iam_role_policy" "webhooks_take" {
  count = local.queued
  name  = "webhooks"
  role  = aws_iam_role.function["forge-webhook"].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], Resource = aws_sqs_queue.webhooks[0].arn }]
  })
}

resource "aws_iam_role" "webhooks_send" {
  count = local.queued
  name  = "${var.name}-webhooks"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "apigateway.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "webhooks_send" {
  count = local.queued
  name  = "send"
  role  = aws_iam_role.webhooks_send[0].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.webhooks[0].arn }]
  })
}

resource "aws_apigatewayv2_integration" "webhooks" {
  count               = local.queued
  api_id              = aws_apigatewayv2_api.hotswap.id
  integration_type    = "AWS_PROXY"
  integration_subtype = "SQS-SendMessage"
  credentials_arn     = aws_iam_role.webhooks_send[0].arn
  request_parameters = {
    QueueUrl    = aws_sqs_queue.webhooks[0].url
    MessageBody = "$request.body"
    # The path, and the headers that a webhook of Gitea always has: SQS takes no empty attribute.
    MessageAttributes = jsonencode({
      Path                  = { DataType = "String", StringValue = "$${request.path}" }
      "Content-Type"        = { DataType = "String", StringValue = "$${request.header.content-type}" }
      "X-Gitea-Event"       = { DataType = "String", StringValue = "$${request.header.x-gitea-event}" }
      "X-Gitea-Delivery"    = { DataType = "String", StringValue = "$${request.header.x-gitea-delivery}" }
      "X-Hub-Signature-256" = { DataType = "String", StringValue = "$${request.header.x-hub-signature-256}" }
    })
  }
}

resource "aws_apigatewayv2_route" "webhooks" {
  count     = local.queued
  api_id    = aws_apigatewayv2_api.hotswap.id
  route_key = "POST /function/forge-webhook/{tenant}/{repository}"
  target    = "integrations/${aws_apigatewayv2_integration.webhooks[0].id}"
}

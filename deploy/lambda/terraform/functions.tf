data "aws_partition" "here" {}
data "aws_region" "here" {}
data "aws_caller_identity" "here" {}

locals {
  go      = { arm64 = "arm64", x86_64 = "amd64" } # what Go calls an architecture of Lambda
  zip     = "${var.zips}/hotswap-${local.go[var.architecture]}.zip"
  secrets = "arn:${data.aws_partition.here.partition}:secretsmanager:${data.aws_region.here.name}:${data.aws_caller_identity.here.account_id}:secret:${var.secret_prefix}"
  url     = aws_apigatewayv2_api.hotswap.api_endpoint
}

resource "aws_cloudwatch_log_group" "function" {
  for_each          = local.functions
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "function" {
  for_each                       = local.functions
  function_name                  = "${var.name}-${each.key}"
  handler                        = each.key
  runtime                        = "provided.al2023"
  architectures                  = [var.architecture]
  filename                       = local.zip
  source_code_hash               = filebase64sha256(local.zip)
  timeout                        = each.value.timeout
  memory_size                    = each.value.memory
  reserved_concurrent_executions = lookup(var.concurrency, each.key, each.value.concurrency)
  role                           = aws_iam_role.function[each.key].arn
  layers                         = [var.secrets_extension_arn, var.git_layer_arn]

  environment {
    variables = { # see docs/reference/functions.md; an empty one is not set
      HOTSWAP_TENANT           = var.tenant
      HOTSWAP_URL              = local.url
      HOTSWAP_HINT_URL         = "${local.url}/function/{function}"
      HOTSWAP_SECRET_PREFIX    = var.secret_prefix
      HOTSWAP_GITEA_URL        = var.gitea_url
      HOTSWAP_GITEA_REPOSITORY = var.gitea_repository
      HOTSWAP_GITEA_BOTS       = join(",", var.gitea_bots)
      HOTSWAP_METRIC_SOURCES   = join(",", [for name, url in var.metric_sources : "${name}=${url}"])
      HOTSWAP_RECONCILE        = var.reconcile
      HOTSWAP_VERBOSE          = tostring(var.verbose)
      exec_timeout             = each.value.exec_timeout
      read_timeout             = each.value.read_timeout
      write_timeout            = each.value.write_timeout
    }
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy_attachment.function]
}

resource "aws_iam_role" "function" {
  for_each = local.functions
  name     = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

# Logs, and in a VPC its network interfaces.
resource "aws_iam_role_policy_attachment" "function" {
  for_each   = local.functions
  role       = aws_iam_role.function[each.key].name
  policy_arn = "arn:${data.aws_partition.here.partition}:iam::aws:policy/service-role/${length(var.subnet_ids) > 0 ? "AWSLambdaVPCAccessExecutionRole" : "AWSLambdaBasicExecutionRole"}"
}

# A function reads its own secrets and no others. Six characters end the name of one that
# exists; without them is what asks for one that may exist.
resource "aws_iam_role_policy" "secrets" {
  for_each = local.functions
  name     = "secrets"
  role     = aws_iam_role.function[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = flatten([for s in concat(each.value.secrets, each.value.optional_secrets) : ["${local.secrets}${s}", "${local.secrets}${s}-??????"]])
    }]
  })
}

# Where nothing is due, the next minute looks again.
resource "aws_lambda_function_event_invoke_config" "look" {
  for_each                     = { for name, f in local.functions : name => f if f.schedule }
  function_name                = aws_lambda_function.function[each.key].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
}

resource "aws_cloudwatch_event_rule" "look" {
  for_each            = { for name, f in local.functions : name => f if f.schedule }
  name                = "${var.name}-${each.key}"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "look" {
  for_each = aws_cloudwatch_event_rule.look
  rule     = each.value.name
  arn      = aws_lambda_function.function[each.key].arn
}

resource "aws_lambda_permission" "look" {
  for_each      = aws_cloudwatch_event_rule.look
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function[each.key].function_name
  principal     = "events.amazonaws.com"
  source_arn    = each.value.arn
}

variable "name" {
  description = "What the names of all resources begin with."
  type        = string
  default     = "hotswap"
}

variable "architecture" {
  description = "Of the functions: arm64 or x86_64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "zips" {
  description = "Folder with the zips of make lambda."
  type        = string
  default     = "../../../bin/lambda"
}

variable "secrets_extension_arn" {
  description = "ARN of the layer \"AWS Parameters and Secrets Lambda Extension\" for this region and architecture."
  type        = string
}

variable "git_layer_arn" {
  description = "ARN of a layer with bin/git, 2.38 or later, for this architecture."
  type        = string
}

variable "secret_prefix" {
  description = "What the names of the secrets in Secrets Manager begin with."
  type        = string
  default     = "hotswap/"
}

variable "tenant" {
  type    = string
  default = "default"
}

variable "gitea_url" {
  description = "Of the Gitea server, https://git.example.com."
  type        = string
}

variable "gitea_repository" {
  description = "OWNER/NAME of the repository with the intents there."
  type        = string
}

variable "gitea_bots" {
  description = "Numbers of accounts there that are bots."
  type        = list(number)
  default     = []
}

variable "metric_sources" {
  description = "Prometheus servers by name."
  type        = map(string)
  default     = {}
}

variable "reconcile" {
  description = "How often everything is looked at, whatever the webhooks say."
  type        = string
  default     = "1m"
}

variable "verbose" {
  type    = bool
  default = false
}

variable "log_retention_days" {
  type    = number
  default = 30
}

variable "subnet_ids" {
  description = "Of a VPC from which the database, Secrets Manager, Gitea and the HTTP API are reached; empty for none."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  type    = list(string)
  default = []
}

variable "webhook_queue" {
  description = "Whether a queue takes Gitea's webhooks before the function does."
  type        = bool
  default     = false
}

variable "concurrency" {
  description = "Processes of a function at once, where it is not what functions.tf.json says. Connections to the database are a budget: at most what one process opens, times these."
  type        = map(number)
  default     = {}
}

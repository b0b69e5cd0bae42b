// Package platform is the embedded platform: what `hotswap serve` and `hotswap demo` run in place of a cloud, on one
// Linux machine and without root's help: a private PostgreSQL cluster, bare Git repositories over smart HTTP, and a
// data folder with the secrets of the installation.
package platform

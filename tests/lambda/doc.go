// Package lambda holds no code, only tests of HotSwap on AWS Lambda: what is deployed says
// what the program says, its zip is the same wherever it is built, and the program that is
// in it answers a Runtime API on loopback. There is no AWS here, and no emulator of it.
package lambda

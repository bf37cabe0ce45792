// Package tools is a module of its own for the programs that the project's
// checks run: its go.mod names them with their versions, so that the library's
// stays lean and nothing has to be installed by hand.
package tools

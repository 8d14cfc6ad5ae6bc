//go:build tools

// Package tools names the program that the tests of the chart build, so that go.mod keeps it pinned.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)

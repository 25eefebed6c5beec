// Package nb holds the rows of OVN's northbound database, generated from the
// schema of the distribution's ovn-common package (OVN 23.03).
package nb

//go:generate go run github.com/ovn-kubernetes/libovsdb/cmd/modelgen@v0.8.1 -extended -p nb -o . /usr/share/ovn/ovn-nb.ovsschema

// Package controller wires the rooms into one running controller: database,
// workflows, products, fabric, hosts and the HTTP endpoint.
package controller

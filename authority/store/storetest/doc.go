// Package storetest gives tests real databases: SQLite files, and a PostgreSQL
// server that it starts from the distribution's packages and that ends with the
// test binary. It is for tests only.
package storetest

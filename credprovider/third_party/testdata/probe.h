#ifdef __cplusplus
extern "C" {
#endif

/* The sum of 1..n, by way of a virtual function of an object. */
int sum_to(int n);

#ifdef __cplusplus
}
#endif

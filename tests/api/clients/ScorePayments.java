import java.net.URI;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.api.TransactionsApi;
import org.openapitools.client.model.BatchResult;
import org.openapitools.client.model.PostedBatch;
import org.openapitools.client.model.PostedTransaction;
import org.openapitools.client.model.Score;

/** By the generated client: score a payment, then a batch of it and of one that conflicts with it. */
public class ScorePayments {
  static PostedTransaction payment(String amount) {
    return new PostedTransaction()
        .transactionId("t-java")
        .accountId("a-1")
        .occurredAt(OffsetDateTime.parse("2026-01-31T12:00:00Z"))
        .amount(amount)
        .currency("EUR")
        .attributes(Map.of("device_age_days", 3));
  }

  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(arguments[0]);
    client.setRequestInterceptor(
        request -> request.header("Authorization", "Bearer " + arguments[1]));
    TransactionsApi api = new TransactionsApi(client);
    Score score = api.scoreTransaction(payment("12.50"));
    BatchResult batch =
        api.scoreBatch(new PostedBatch().transactions(List.of(payment("12.5"), payment("13"))));
    System.out.println(
        score.getProbability()
            + " "
            + batch.getResults().get(0).getProbability()
            + " "
            + batch.getResults().get(1).getError().getCode());
  }
}
